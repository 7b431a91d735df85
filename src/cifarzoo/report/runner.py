"""Run one experiment with one seed, once: what is recorded already is not run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from cifarzoo.arithmetic.cost import count_params
from cifarzoo.data.loaders import Loaders
from cifarzoo.errors import (
    DownloadError,
    NonFiniteLossError,
    ResultsError,
    WeightsError,
    differences,
)
from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.registry import outline
from cifarzoo.report.conditions import Conditions, load, recipe_of
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.folder import read_record, record_path, write_failure, write_record
from cifarzoo.report.provenance import this_machine, this_source, weights_label
from cifarzoo.report.record import Failure, Record, Scores, fingerprint_of, utc_now
from cifarzoo.run import Run, train

__all__ = ["checkpoint_path", "recorded", "run_experiment"]


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
    differ = differences(
        {
            "data": found.data,
            "mode": found.mode,
            "recipe": found.recipe,
            "network": found.network,
            "weights": found.weights,
            "scored": "val" if found.test is None else "test",
        },
        {
            "data": conditions.data,
            "mode": conditions.mode,
            "recipe": recipe_of(experiment, conditions.mode),
            "network": _fingerprint(experiment),
            "weights": _weights_of(experiment, conditions),
            "scored": conditions.scored,
        },
    )
    if differ:
        raise ResultsError(
            f"{path} is of another run ({'; '.join(differ)}). Choose another folder, or "
            "delete the file to have it run again"
        )
    return found


def _weights_of(experiment: Experiment, conditions: Conditions) -> str | None:
    if experiment.card.initial_weights is None:
        return None
    return weights_label(conditions.weights or experiment.card.initial_weights)


def _fingerprint(experiment: Experiment) -> str:
    return fingerprint_of(outline(experiment.card))


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
        tta=conditions.tta,
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
        weights=_weights_of(experiment, conditions),
        test_tta=_scores(run.test_tta, confusion="drop"),
    )


def _scores(evaluation: Evaluation | None, *, confusion: Literal["keep", "drop"]) -> Scores | None:
    return None if evaluation is None else Scores.of(evaluation, confusion=confusion)


def _forget(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)
    if checkpoint.parent.is_dir() and not any(checkpoint.parent.iterdir()):
        checkpoint.parent.rmdir()
