"""What the examples share: command-line options, training runs, and saving of figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from experiments import Experiment
from matplotlib.figure import Figure

import cifarzoo as zoo
from cifarzoo.errors import RunError
from cifarzoo.evaluation.statistics import mean_and_std
from cifarzoo.recipe import PrecisionName
from cifarzoo.record import RunRecord, read_record

QUICK_IMAGES = 160  # of a quick run, for training and for testing each


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line; `own` also has the options that a single example adds."""

    data: Literal["cifar10", "shapes"]
    root: Path | None
    quick: bool
    seeds: tuple[int, ...]
    out: Path
    results: Path | None
    own: argparse.Namespace
    precision: PrecisionName = "auto"

    def runs(self, experiment: Experiment, *, weights: str | None = None) -> list[RunRecord]:
        """Train an experiment with every seed, or read the runs recorded in `--results`."""
        return [self.run(experiment, seed, weights=weights) for seed in self.seeds]

    def run(self, experiment: Experiment, seed: int, *, weights: str | None = None) -> RunRecord:
        """Train an experiment, or read its run; `--quick` trains one epoch on a few images."""
        card, limit = experiment.card, None
        if self.quick:
            limit, card = QUICK_IMAGES, card.with_recipe(replace(card.recipe, epochs=1))
        return run_once(
            card,
            self.results and self.results / f"{experiment.key}-seed{seed}.json",
            data=self.data,
            root=self.root,
            weights=weights if card.initial_weights else None,
            seed=seed,
            limit=limit,
            precision=self.precision,
        )

    def loaders(self, batch_size: int = 64, seed: int = 0) -> zoo.Loaders:
        """Load the data."""
        if self.data == "shapes":
            return zoo.shapes_loaders(batch_size, n_train=2000, n_test=500, seed=seed)
        return zoo.cifar10_loaders(batch_size, root=self.root, seed=seed)

    def save(self, figure: Figure, name: str, description: str) -> None:
        """Save a figure as PNG, with its description in the metadata."""
        self.out.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.out / name, dpi=150, metadata={"Description": description})
        print(f"wrote {self.out / name}")


def run_once(
    card: zoo.ModelCard,
    path: Path | None,
    *,
    note: str = "",
    **options: Any,  # noqa: ANN401
) -> RunRecord:
    """Read the record of a run; if there is none, train, and write the record.

    An interrupted run continues from its checkpoint.

    Args:
        card: of the model; its first recipe is used.
        path: of the record; None trains without recording.
        note: replaces the record's note.
        options: arguments of `train`; `data` may be a function that returns loaders.

    Raises:
        RunError: the record belongs to another recipe or data set.
    """
    if path is None:
        run: zoo.Run = zoo.train(card, **options)
        return run
    if path.exists():
        found = read_record(path)
        wanted = (card.recipe, options.get("limit"))
        other_data = isinstance(options["data"], str) and options["data"] != found.data
        other_data |= bool(note) and note != found.note
        if (found.recipe, found.limit) != wanted or other_data:
            raise RunError(
                f"{path} is a run with another recipe or other data; delete it or choose another "
                "folder"
            )
        return found
    if callable(options["data"]):
        options["data"] = options["data"]()
    checkpoint = path.parent / ".checkpoints" / f"{path.stem}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run = zoo.train(card, checkpoint=checkpoint, **options)
    if note:
        run = run.replace(note=note)
    path.write_text(run.to_json(), encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return run


def accuracy(run: RunRecord, split: str) -> float:
    """Return the accuracy of a run on "train", "val" or "test"."""
    score = getattr(run, split)
    assert isinstance(score, zoo.Evaluation)
    return score.accuracy


def summarize(values: Sequence[float], style: str = ".2%") -> str:
    """Format the mean over the seeds, with the standard deviation if there are several."""
    found = mean_and_std(values)
    return f"{found.mean:{style}}" + ("" if found.std is None else f" ± {found.std:{style}}")


def print_accuracies(part: str, experiment: Experiment, runs: Sequence[RunRecord]) -> None:
    """Print the accuracies on all three splits next to the report's."""
    print(f"{part}  {'accuracy':<10} {'ours':>16} {'report':>8}")
    for split in ("train", "val", "test"):
        ours = summarize([accuracy(run, split) for run in runs])
        print(f"    {split:<10} {ours:>16} {getattr(experiment.reported, split):>8.2%}")


def print_origin(runs: Sequence[RunRecord]) -> None:
    """Print the machines and the code that made the runs."""
    for machine, source in dict.fromkeys((r.provenance.machine, r.provenance.source) for r in runs):
        print(f"\nTrained on {machine} (code: {source})")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds such as "0,1,2"."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected different numbers, such as 0,1,2")
    return tuple(map(int, parts))


def parse(
    description: str, seeds: str, add_options: Callable[[argparse.ArgumentParser], None] | None
) -> Options:
    """Parse the command line; `add_options` may also change defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["cifar10", "shapes"], default="cifar10")
    parser.add_argument("--root", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--quick", action="store_true", help="one epoch on a few images")
    parser.add_argument("--seeds", type=parse_seeds, help=f"default: {seeds}; with --quick: 0")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of the figures")
    parser.add_argument("--results", type=Path, help="read runs from this folder, and record here")
    if add_options:
        add_options(parser)
    args = parser.parse_args()
    return Options(
        data=args.data,
        root=args.root,
        quick=args.quick,
        seeds=args.seeds or parse_seeds("0" if args.quick else seeds),
        out=args.out,
        results=args.results,
        own=args,
        precision=getattr(args, "precision", "auto"),
    )


def run_example(
    example: Callable[[Options], None],
    description: str,
    *,
    seeds: str = "0",
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    hint: str = "",
) -> None:
    """Parse the command line and run an example; exit with a message if it fails.

    `seeds` is the default of `--seeds`; `hint` is printed after an error.
    """
    options = parse(description, seeds, add_options)
    if options.quick or options.data == "shapes":
        print("A trial run on few or artificial images: its figures mean nothing.\n")
    try:
        example(options)
    except (zoo.CifarZooError, OSError) as error:
        sys.exit(f"{error}\n{hint}".rstrip())
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)
