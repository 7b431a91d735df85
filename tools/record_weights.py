"""Train a model with several seeds, and put the median run's weights into the package.

    python tools/record_weights.py sprint_m [--recipe long] [--data cifar10] [--seeds 0,1,2]

The test set is not used during training. The weights of each run are rounded to half precision
unless that changes the accuracy on the training images, and written to a file; the model that
loads from this file is scored once, in float32. Unfinished work is kept in runs/record/NAME-TAG,
and after an interruption the same command resumes. The script must run in a git checkout without
uncommitted changes, since the records refer to a commit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import cifarzoo as zoo
from cifarzoo.card import STANDARD
from cifarzoo.errors import RunError, WeightsError
from cifarzoo.files import replace_file, write_text
from cifarzoo.record import RunRecord, read_record
from cifarzoo.run import RUN_FILE, DataName, load_data, provenance
from cifarzoo.weights import packaged_file, packaged_weights, sha256_of

__all__ = ["Recording", "main"]

ROUNDING_TOLERANCE = 1e-3  # of the accuracy on the training images


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The runs of a model by one of its recipes."""

    card: zoo.ModelCard
    tag: str  # of the recipe, and of the weights
    data: DataName = "cifar10"
    work: Path  # folder of unfinished runs and of every run's weights
    device: str = "auto"

    @property
    def recipe(self) -> zoo.Recipe:
        """The recipe of the runs."""
        return self.card.recipe_for(self.tag)

    def recorded(self) -> dict[int, RunRecord]:
        """Return the finished runs by seed, including those in the package.

        Raises:
            RunError: a run was trained by another recipe, or on other data.
        """
        runs = [read_record(path) for path in sorted(self.work.glob("seed*.json"))]
        for weights in packaged_weights(self.card.name):
            runs += weights.runs if weights.tag == self.tag else ()
        settings = (self.card.name, self.data, self.recipe)
        if any((run.name, run.data, run.recipe) != settings for run in runs):
            raise RunError(
                f"some runs of {self.card.name} {self.tag} were trained by another recipe or on "
                f"other data than {self.data}: move those in the package to results/superseded, "
                f"and empty {self.work}"
            )
        return {run.seed: run for run in runs}

    def record(self, seed: int) -> RunRecord:
        """Train and score one run; write its weights, then its record, to the work folder."""
        loaders = load_data(self.data, self.recipe, seed=seed)
        trained = self._trained(seed, zoo.Loaders(loaders.train, loaders.val))
        assert trained.train is not None
        evaluate = partial(zoo.evaluate, device=self.device)
        path = self._weights_file(seed)
        for half in (True, False):
            metadata = {"model": self.card.name, "data": self.data, "tag": self.tag}
            zoo.save_weights(trained.model, path, metadata=metadata, half=half)
            model = zoo.build_model(self.card.name, weights=path)
            train = evaluate(model, loaders.train.in_order())
            if abs(train.accuracy - trained.train.accuracy) <= ROUNDING_TOLERANCE:
                break
        test_tta = evaluate(model, loaders.test, tta="flip_translate")
        record = trained.replace(
            data=self.data,
            train=replace(train, confusion=None),
            test=evaluate(model, loaders.test),
            test_tta=replace(test_tta, confusion=None),
            weights_sha256=sha256_of(path),
        )
        write_text(self.work / f"seed{seed}.json", record.to_json())
        return record

    def _trained(self, seed: int, loaders: zoo.Loaders) -> zoo.Run:
        """Return a run without a test score; load it if it is finished, otherwise train it."""
        folder = self.work / f"seed{seed}"
        if not (folder / RUN_FILE).exists():
            zoo.train(
                self.card,
                data=loaders,
                recipe=self.recipe,
                seed=seed,
                device=self.device,
                checkpoint=self.work / f"seed{seed}.pt",
            ).save(folder)
        return zoo.Run.load(folder)

    def ship(self) -> zoo.Weights:
        """Put the records of all runs, and the weights of the median one, into the package.

        Raises:
            WeightsError: the weights of the median run are missing.
        """
        runs = self.recorded()
        median = zoo.Weights(tag=self.tag, size_bytes=1, runs=tuple(runs.values())).run
        shipped, own = packaged_file(self.card.name, self.tag), self._weights_file(median.seed)
        found = [p for p in (shipped, own) if p.exists() and sha256_of(p) == median.weights_sha256]
        if not found:
            raise WeightsError(f"{own} is missing or was changed: expected the median weights")
        if found[0] == own:
            with replace_file(shipped) as file:
                file.write(own.read_bytes())
        for seed, run in runs.items():
            write_text(shipped.with_name(f"{shipped.stem}-seed{seed}.json"), run.to_json())
        return next(each for each in packaged_weights(self.card.name) if each.tag == self.tag)

    def _weights_file(self, seed: int) -> Path:
        return self.work / f"seed{seed}.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Record the weights that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="model")
    parser.add_argument("--recipe", dest="tag", default=STANDARD, help="tag of the recipe")
    parser.add_argument("--data", choices=get_args(DataName), default="cifar10")
    parser.add_argument("--seeds", default="0", help="seeds, separated by commas")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    source = provenance()
    if source.commit is None or source.dirty is not False:
        sys.exit("expected a git checkout of cifarzoo without uncommitted changes")
    try:
        recording = Recording(
            card=zoo.model_card(options.name),
            tag=options.tag,
            data=options.data,
            work=Path("runs", "record", f"{options.name}-{options.tag}"),
            device=options.device,
        )
        for seed in map(int, options.seeds.split(",")):
            run = recording.recorded().get(seed) or recording.record(seed)
            print(f"seed {seed}: {run.test}", flush=True)
        weights = recording.ship()
    except zoo.CifarZooError as error:
        sys.exit(str(error))
    print(f"{packaged_file(options.name, weights.tag)}: {weights}; commit it with its records")


if __name__ == "__main__":
    main()
