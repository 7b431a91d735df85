"""Run one experiment with one seed, once: what is recorded already is not run again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from cifarzoo.arithmetic.cost import count_params
from cifarzoo.data.loaders import BatchLoader, Loaders, TensorLoader, shapes_loaders
from cifarzoo.errors import DownloadError, NonFiniteLossError, ResultsError, WeightsError
from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.folder import read_record, record_path, write_failure, write_record
from cifarzoo.report.provenance import this_machine, this_source
from cifarzoo.report.record import Failure, ModeName, Record, Scores, fingerprint_of, utc_now
from cifarzoo.run import Run, load_data, train
from cifarzoo.spec import PrecisionName, Recipe

__all__ = [
    "Conditions",
    "QUICK_IMAGES",
    "checkpoint_path",
    "load",
    "recipe_of",
    "recorded",
    "run_experiment",
]

QUICK_IMAGES = 300  # to train and validate on; a third as many to test on


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all runs of a report share.

    Attributes:
        folder: where their files go.
        data: name of the data set.
        root: where CIFAR-10 is; None looks where `cifar10_loaders` does.
        mode: "full", or "quick": one epoch over a few images, to see that everything works.
        weights: what an experiment with a trained backbone starts from: a tag or a file; None
            takes its card's.
        device: "auto", or what `torch.device` takes.
        precision: as `train` takes it.
        progress: whether to show progress bars.
    """

    folder: Path
    data: str = "cifar10"
    root: Path | None = None
    mode: ModeName = "full"
    weights: str | Path | None = None
    device: str = "auto"
    precision: PrecisionName = "auto"
    progress: bool = True


def recipe_of(experiment: Experiment, mode: ModeName) -> Recipe:
    """Give what an experiment is trained with; a quick run is a single epoch."""
    recipe = experiment.card.recipe
    return recipe if mode == "full" else replace(recipe, epochs=1)


def checkpoint_path(folder: Path, key: str, seed: int) -> Path:
    """Give the path of the state of a run that is not finished."""
    return folder / ".checkpoints" / f"{key}-seed{seed}.pt"


def recorded(experiment: Experiment, seed: int, conditions: Conditions) -> Record | None:
    """Give the record of this very run, if there is one.

    Raises:
        ResultsError: the file is damaged, or of another run: it is never written over.
    """
    path = record_path(conditions.folder, experiment.key, seed)
    if not path.exists():
        return None
    found = read_record(path)
    wanted: dict[str, object] = {
        "data": conditions.data,
        "mode": conditions.mode,
        "recipe": recipe_of(experiment, conditions.mode),
        "network": _fingerprint(experiment),
    }
    differences = [
        f"{name}: {getattr(found, name)} in the file, {value} now"
        for name, value in wanted.items()
        if getattr(found, name) != value
    ]
    if differences:
        raise ResultsError(
            f"{path} is of another run ({'; '.join(differences)}). Choose another folder, or "
            "delete the file to have it run again"
        )
    return found


def _fingerprint(experiment: Experiment) -> str:
    with torch.device("meta"):  # nothing is allocated
        return fingerprint_of(experiment.card.builder(10))


def load(conditions: Conditions, recipe: Recipe, *, seed: int) -> Loaders:
    """Load the data of a run: all of it, or the first few images for a quick one.

    Raises:
        OptionError: no data set has that name; and what the loaders raise.
    """
    quick = conditions.mode == "quick"
    if quick and conditions.data == "shapes":
        return shapes_loaders(
            recipe.batch_size, n_train=QUICK_IMAGES, n_test=QUICK_IMAGES // 3, seed=seed
        )
    loaders = load_data(conditions.data, recipe, root=conditions.root, seed=seed, download=True)
    if not quick:
        return loaders
    return Loaders(
        _first(loaders.train, QUICK_IMAGES, recipe.batch_size, seed=seed),
        loaders.val and _first(loaders.val, QUICK_IMAGES // 10),
        loaders.test and _first(loaders.test, QUICK_IMAGES // 3),
    )


def _first(
    loader: BatchLoader, count: int, batch_size: int = 250, *, seed: int | None = None
) -> BatchLoader:
    """Give a loader of the first images alone; shuffled if there is a seed."""
    if not isinstance(loader, TensorLoader):
        return loader
    return TensorLoader(
        loader.images[:count],
        loader.labels[:count],
        batch_size=batch_size,
        shuffle="never" if seed is None else "every_epoch",
        last_batch="keep" if seed is None else "drop",
        augmentation=loader.augmentation,
        seed=seed or 0,
        classes=loader.classes,
    )


def run_experiment(experiment: Experiment, seed: int, conditions: Conditions) -> Record | Failure:
    """Train, score and record; a run that was interrupted goes on from its checkpoint.

    Returns:
        The record; or, where weights could not be had or the loss was not finite, the note of
        the failure, which is written as well, so that the rest of a report can go on.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the checkpoint was written.
        ResultsError: the files cannot be written.
        And what the loaders, `fit` and `evaluate` raise.
    """
    this_source()  # read before anything runs: the code that is loaded now
    checkpoint = checkpoint_path(conditions.folder, experiment.key, seed)
    resumed, began = checkpoint.exists(), time.perf_counter()
    loaders = load(conditions, recipe_of(experiment, conditions.mode), seed=seed)
    try:
        run = _train(experiment, loaders, seed, conditions, checkpoint)
    except (DownloadError, WeightsError, NonFiniteLossError) as error:
        failure = Failure.of(experiment.key, seed, error)
        write_failure(failure, conditions.folder)
        return failure
    seconds = None if resumed else time.perf_counter() - began
    record = _record_of(run, experiment, conditions, total_seconds=seconds)
    write_record(record, conditions.folder)
    _forget(checkpoint)
    return record


def _train(
    experiment: Experiment, loaders: Loaders, seed: int, conditions: Conditions, checkpoint: Path
) -> Run:
    return train(
        experiment.card,
        data=loaders,
        recipe=recipe_of(experiment, conditions.mode),
        weights=conditions.weights if experiment.card.initial_weights else None,
        seed=seed,
        device=conditions.device,
        precision=conditions.precision,
        checkpoint=checkpoint,
        progress=conditions.progress,
    )


def _record_of(
    run: Run, experiment: Experiment, conditions: Conditions, *, total_seconds: float | None
) -> Record:
    return Record(
        key=experiment.key,
        title=experiment.title,
        task=experiment.task,
        seed=run.seed,
        data=conditions.data,
        mode=conditions.mode,
        network=fingerprint_of(run.model),
        params=count_params(run.model),
        trainable=count_params(run.model, which="trainable"),
        recipe=run.card.recipe,
        train=_scores(run.train, confusion="drop"),
        val=_scores(run.val, confusion="drop"),
        test=_scores(run.test, confusion="keep"),
        history=run.history,
        machine=this_machine(conditions.device, conditions.precision),
        source=this_source(),
        date=utc_now(),
        total_seconds=total_seconds,
    )


def _scores(evaluation: Evaluation | None, *, confusion: Literal["keep", "drop"]) -> Scores | None:
    return None if evaluation is None else Scores.of(evaluation, confusion=confusion)


def _forget(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)
    if checkpoint.parent.is_dir() and not any(checkpoint.parent.iterdir()):
        checkpoint.parent.rmdir()
