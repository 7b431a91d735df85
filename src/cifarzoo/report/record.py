"""One finished run as data: what was measured, of what, with what, on what."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from torch import nn

from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.report.provenance import Machine, Source
from cifarzoo.spec import Recipe, TtaName
from cifarzoo.training.history import History

__all__ = [
    "Failure",
    "ModeName",
    "Record",
    "Scores",
    "fingerprint_of",
    "utc_now",
]

ModeName: TypeAlias = Literal["full", "quick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A model's figures over a set of images, as `Evaluation` has them.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: in [0, 1].
        interval: 95 % interval of the accuracy, for the finite number of images.
        per_class: accuracy of each class; None for a class without images.
        calibration_error: expected, in [0, 1].
        confusion: rows are true classes; None where it was not kept.
        n: number of images.
        tta: the test-time augmentation that was used; "none" is a single view.
    """

    loss: float
    accuracy: float
    interval: tuple[float, float]
    per_class: tuple[float | None, ...]
    calibration_error: float
    confusion: tuple[tuple[int, ...], ...] | None
    n: int
    tta: TtaName = "none"

    @classmethod
    def of(cls, evaluation: Evaluation, *, confusion: Literal["keep", "drop"]) -> Scores:
        """Take the figures out of an evaluation."""
        rows = evaluation.confusion.tolist() if confusion == "keep" else None
        return cls(
            loss=evaluation.loss,
            accuracy=evaluation.accuracy,
            interval=evaluation.interval,
            per_class=tuple(None if math.isnan(x) else x for x in evaluation.per_class),
            calibration_error=evaluation.calibration_error,
            confusion=None if rows is None else tuple(map(tuple, rows)),
            n=evaluation.n,
            tta=evaluation.tta,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of one experiment with one seed.

    Attributes:
        key: of the experiment.
        title: what tables call it.
        task: of the report, such as "3b".
        seed: of initial weights, order, augmentation and dropout.
        data: "cifar10", or the name of what stood in for it.
        mode: "full", or "quick" for a run that only shows the way.
        network: hash of the names and shapes of the model's tensors.
        params: parameters of the model.
        trainable: those of them that were trained.
        recipe: what it was trained with.
        train: over all training images, unaugmented.
        val: over the validation split.
        test: over the test set, single view, looked at once.
        history: check by check.
        machine: where it ran.
        source: the code that ran.
        date: when it was done, ISO 8601 in UTC.
        total_seconds: loading, training and scoring; None for a run that was resumed, whose
            first part was not timed.
        weights: what it started from: a tag, or a file's name and hash; None for random ones.
        test_tta: over the test set with test-time augmentation; None where it was not asked for.
        sha256: hash of the weights file that was scored; None where none was kept.
        teacher: the weights that it learnt from: model, tag and the beginning of their hash; None
            where the recipe has no distillation.
        machines: where the parts of the run were made, the last one `machine`; empty where that is
            not known.
        commits: of the code that made those parts, the last one `source`'s; empty likewise.
    """

    key: str
    title: str
    task: str
    seed: int
    data: str
    mode: ModeName
    network: str
    params: int
    trainable: int
    recipe: Recipe
    train: Scores | None
    val: Scores | None
    test: Scores | None
    history: History
    machine: Machine
    source: Source
    date: str
    total_seconds: float | None
    weights: str | None = None
    test_tta: Scores | None = None
    sha256: str | None = None
    teacher: str | None = None
    machines: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that could not be done.

    Attributes:
        key: of the experiment.
        seed: that was tried.
        error: the message.
        date: when, ISO 8601 in UTC.
    """

    key: str
    seed: int
    error: str
    date: str

    @classmethod
    def of(cls, key: str, seed: int, error: Exception) -> Failure:
        """Note an error, now; what it says of the user's home folder stays at home."""
        text = str(error).replace(str(Path.home()), "~")
        return cls(key=key, seed=seed, error=text, date=utc_now())


def utc_now() -> str:
    """Give the time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def fingerprint_of(model: nn.Module) -> str:
    """Hash the names and shapes of a model's tensors."""
    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
