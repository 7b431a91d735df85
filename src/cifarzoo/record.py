"""Records of training runs: history, scores and provenance."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

import torch
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
)
from torch import Tensor
from typing_extensions import override

from cifarzoo.display import HasTable, Table
from cifarzoo.errors import CifarZooError, RunError
from cifarzoo.recipe import Recipe, TtaName
from cifarzoo.validation import (
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    UnitInterval,
    from_json,
    settings,
    to_json,
)

__all__ = [
    "Check",
    "Evaluation",
    "History",
    "Provenance",
    "RunRecord",
    "Scores",
    "StopReason",
    "read_record",
    "read_scores",
]

T = TypeVar("T")

StopReason: TypeAlias = Literal["epochs", "early", "interrupted", "diverged", "failed"]

_MAX_ROWS = 20


def _nan_for_null(value: object) -> object:
    return float("nan") if value is None else value


def _to_confusion(value: object) -> object:
    return value if value is None or isinstance(value, Tensor) else torch.as_tensor(value)


_Loss = Annotated[float, BeforeValidator(_nan_for_null)]  # JSON has no NaN
_ClassAccuracy = Annotated[float, BeforeValidator(_nan_for_null)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Confusion = Annotated[
    Tensor,
    BeforeValidator(_to_confusion),
    PlainSerializer(lambda matrix: matrix.tolist(), return_type=list[list[int]], when_used="json"),
]


@settings
class Check:
    """The state of a run at one validation check.

    Attributes:
        step: number of optimizer steps so far.
        epoch: number of passes over the training images so far, as a float.
        train_loss: mean training loss since the previous check, in nats, on augmented images.
        train_accuracy: training accuracy since the previous check, in [0, 1].
        val_loss: mean cross-entropy on the validation split, in nats; None without a split.
        val_accuracy: accuracy on the validation split, in [0, 1]; None without a split.
        lr: learning rate of the last step.
        seconds: wall-clock time of training and validation so far, without interruptions.
    """

    step: NonNegativeInt
    epoch: NonNegativeFloat
    train_loss: _Loss
    train_accuracy: UnitInterval
    val_loss: _Loss | None
    val_accuracy: UnitInterval | None
    lr: NonNegativeFloat
    seconds: NonNegativeFloat


@settings
class History(HasTable):
    """The course of a training run.

    Attributes:
        checks: checks of the run, in the order of their steps.
        best_step: step of the state that was kept.
        stopped: why the run ended: "epochs" (all done), "early" (early stopping), "interrupted",
            "diverged" (a loss or a weight is not finite) or "failed" (another error).
        steps: number of optimizer steps.
        images: number of training images seen, counted once per epoch.
        seconds: wall-clock time of training and validation, without interruptions.
    """

    checks: tuple[Check, ...]
    best_step: NonNegativeInt
    stopped: StopReason
    steps: NonNegativeInt
    images: NonNegativeInt
    seconds: NonNegativeFloat

    @property
    def best(self) -> Check | None:
        """The check at `best_step`, or None if there was none."""
        return next((check for check in self.checks if check.step == self.best_step), None)

    @property
    def images_per_second(self) -> float:
        """Training images per second, validation time included."""
        return self.images / self.seconds if self.seconds else 0.0

    @override
    def table(self) -> Table:
        every = max(1, -(-len(self.checks) // _MAX_ROWS))
        last = len(self.checks) - 1
        shown = [
            check
            for i, check in enumerate(self.checks)
            if i % every == 0 or i == last or check.step == self.best_step
        ]
        note = f"{self.steps:,} steps, stopped: {self.stopped}; kept step {self.best_step:,} (*)"
        if len(shown) < len(self.checks):
            note += f"; {len(shown)} of {len(self.checks)} checks shown"
        header = (
            *("step", "epoch", "training loss", "training accuracy", "validation loss"),
            *("validation accuracy", "learning rate", "seconds"),
        )
        return Table(
            title="History",
            header=header,
            rows=tuple(self._cells(check) for check in shown),
            numbers=header,
            note=note,
        )

    def _cells(self, check: Check) -> tuple[str, ...]:
        loss, accuracy = check.val_loss, check.val_accuracy
        return (
            f"{check.step:,}" + (" *" if check.step == self.best_step else ""),
            f"{check.epoch:.4g}",
            f"{check.train_loss:.4f}",
            f"{check.train_accuracy:.2%}",
            "-" if loss is None else f"{loss:.4f}",
            "-" if accuracy is None else f"{accuracy:.2%}",
            f"{check.lr:.3g}",
            f"{check.seconds:.1f}",
        )


@settings
class Evaluation(HasTable):
    """The score of a model on a set of images.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: fraction of correctly classified images, in [0, 1].
        interval: 95 % Wilson interval of the accuracy, for the finite number of images.
        per_class: accuracy of each class, in [0, 1]; NaN for a class without images.
        calibration_error: expected calibration error over 15 equal bins, in [0, 1]
            (arXiv 1706.04599).
        n: number of images.
        tta: test-time augmentation; "none" is a single view.
        confusion: confusion matrix, int64 (K,K) on the CPU; rows are true classes and columns are
            predictions. None in records that do not include it.
        class_names: names of the K classes; None if unknown.
    """

    loss: _Loss
    accuracy: UnitInterval
    interval: tuple[UnitInterval, UnitInterval]
    per_class: tuple[_ClassAccuracy, ...]
    calibration_error: UnitInterval
    n: PositiveInt
    tta: TtaName = "none"
    confusion: _Confusion | None = Field(default=None, repr=False)
    class_names: tuple[str, ...] | None = None

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @override
    def __str__(self) -> str:
        low, high = self.interval
        views = "" if self.tta == "none" else f" with {self.tta} test-time augmentation"
        return (
            f"accuracy {self.accuracy:.2%}{views} (95 % interval {low:.2%} to {high:.2%}, "
            f"{self.n} images), loss {self.loss:.4f}"
        )

    @override
    def table(self) -> Table:
        low, high = self.interval
        names = self.class_names or [f"class {i}" for i in range(len(self.per_class))]
        accuracies = zip(names, self.per_class, strict=True)
        rows = [
            ("accuracy", f"{self.accuracy:.2%}"),
            ("95 % interval", f"{low:.2%} to {high:.2%}"),
            ("loss", f"{self.loss:.4f} nats"),
            ("calibration error", f"{self.calibration_error:.2%}"),
            ("images", f"{self.n:,}"),
            ("test-time augmentation", self.tta),
            *((name, f"{accuracy:.2%}") for name, accuracy in accuracies),
        ]
        return Table(
            title="Evaluation", header=("what", "value"), rows=tuple(rows), numbers=("value",)
        )


@settings
class Provenance:
    """Where, when and with which code a result was computed.

    Attributes:
        processor: name of the processor or GPU.
        cores: CPU cores available to the process.
        threads: number of torch's CPU threads.
        device: type of the device, such as "cpu" or "cuda".
        precision: precision of convolutions and matrix products, "float32" or "bfloat16".
        commit: commit of the git checkout that contains the package; None without one.
        dirty: whether the package differed from that commit; None without one.
        versions: versions of Python, cifarzoo and the libraries that affect the result.
        date: date and time in UTC, ISO 8601.
    """

    processor: str
    cores: PositiveInt
    threads: PositiveInt
    device: str
    precision: Literal["float32", "bfloat16"]
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    date: str

    @property
    def machine(self) -> str:
        """Processor, cores, threads, device and precision in one line."""
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{self.processor}, {cores}, {threads}, {self.device}, {self.precision}"

    @property
    def source(self) -> str:
        """Short commit, marked if the package differed from it, or the version."""
        if self.commit is None:
            return f"version {self.versions.get('cifarzoo', 'unknown')}"
        return f"{self.commit[:10]}{' with changes' if self.dirty else ''}"


@settings
class RunRecord(HasTable):
    """Everything known about a training run, as stored in `run.json`.

    Attributes:
        name: name of the model.
        data: "cifar10", "cifar100", "shapes", or "custom" for the caller's own loaders.
        limit: number of training images and of test images that were used; None for all.
        seed: seed for initial weights, order, augmentation and dropout.
        recipe: training settings.
        initial_weights: tag or file of the weights that training started from, with the start of
            their SHA-256; None for random weights.
        teacher: model and tag of the distillation teacher, with the start of its SHA-256, or None.
        params: number of parameters.
        trainable_params: number of trained parameters.
        history: course of the training.
        train: score on all training images without augmentation, or None.
        val: score on the validation split, or None.
        test: score on the test set with a single view, computed once, or None.
        test_tta: score on the test set with test-time augmentation, or None.
        weights_sha256: SHA-256 of the weights file that was scored; None if none was written.
        provenance: code and machine of the last part of the run.
        earlier_parts: code and machine of the earlier parts of an interrupted run, one line each.
        note: anything else a reader has to know, such as a recipe that no longer exists.
    """

    name: Name
    data: str
    limit: PositiveInt | None = None
    seed: Seed
    recipe: Recipe
    initial_weights: str | None = None
    teacher: str | None = None
    params: NonNegativeInt
    trainable_params: NonNegativeInt
    history: History
    train: Evaluation | None
    val: Evaluation | None
    test: Evaluation | None
    test_tta: Evaluation | None = None
    weights_sha256: _Sha256 | None = None
    provenance: Provenance
    earlier_parts: tuple[str, ...] = ()
    note: str = ""

    @override
    def __repr__(self) -> str:
        score = "not scored" if self.test is None else f"test accuracy {self.test.accuracy:.2%}"
        return f"<Run {self.name} on {self.data}, seed {self.seed}: {score}>"

    @override
    def table(self) -> Table:
        tta = "" if self.test_tta is None else f"test, {self.test_tta.tta}"
        scores = {"training": self.train, "validation": self.val, "test": self.test}
        rows = [
            (
                split,
                f"{each.accuracy:.2%}",
                f"{each.interval[0]:.2%} to {each.interval[1]:.2%}",
                f"{each.loss:.4f}",
                f"{each.n:,}",
            )
            for split, each in {**scores, tta: self.test_tta}.items()
            if each is not None
        ]
        header = ("images", "accuracy", "95 % interval", "loss", "number")
        return Table(
            title=f"{self.name} on {self.data}, seed {self.seed}",
            header=header,
            rows=tuple(rows),
            numbers=header[1:],
            note=f"{self.params:,} parameters, {self.history.steps:,} steps in "
            f"{self.history.seconds:,.1f} s on {self.provenance.machine}",
        )

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return to_json(self)


@settings
class Scores(HasTable):
    """What is known about a weights file beyond its accuracy, as stored in `NAME-TAG-scores.json`.

    All accuracies are on test images, with a single view, in [0, 1].

    Attributes:
        weights_sha256: SHA-256 of the weights file that was scored.
        unique_accuracy: accuracy without the test images that have a near-duplicate among the
            training images (list of ciFAIR, arXiv 1902.00423).
        unique_images: number of the other test images.
        calibration_error: expected calibration error on the test set, as in `Evaluation`.
        temperature: divisor of the logits with the lowest loss on `temperature_images`.
        temperature_images: description of the images that the temperature was fitted on.
        scaled_calibration_error: expected calibration error with that temperature.
        corruptions: accuracies at severity 1 to 5, by corruption: common corruptions (arXiv
            1903.12261) drawn by `cifarzoo.evaluation.corruptions`. The published CIFAR-10-C is
            another set of images.
        corruption_images: number of test images for each corruption and severity.
        auroc_probability: area under the ROC curve, in [0, 1], when the maximum probability
            distinguishes the test images from those of CIFAR-100.
        auroc_energy: the same for the energy, the log-sum-exp of the logits (arXiv 2010.03759).
        pgd_accuracy: accuracy against 20 steps of PGD within 8/255 in the L∞ norm (arXiv
            1706.06083).
        pgd_images: number of attacked test images.
        provenance: code and machine of the measurement.
    """

    weights_sha256: _Sha256
    unique_accuracy: UnitInterval
    unique_images: PositiveInt
    calibration_error: UnitInterval
    temperature: PositiveFloat
    temperature_images: str
    scaled_calibration_error: UnitInterval
    corruptions: Annotated[Mapping[str, tuple[UnitInterval, ...]], Field(min_length=1)]
    corruption_images: PositiveInt
    auroc_probability: UnitInterval
    auroc_energy: UnitInterval
    pgd_accuracy: UnitInterval
    pgd_images: PositiveInt
    provenance: Provenance = Field(repr=False)

    @property
    def by_corruption(self) -> dict[str, float]:
        """The mean accuracy over the severities, by corruption."""
        return {name: statistics.fmean(values) for name, values in self.corruptions.items()}

    @property
    def corruption_accuracy(self) -> float:
        """The mean accuracy over all corruptions and severities."""
        return statistics.fmean(self.by_corruption.values())

    def rows(self) -> list[tuple[str, str]]:
        """Return the scores as (name, text), without the single corruptions."""
        return [
            (
                "accuracy without near-duplicates",
                f"{self.unique_accuracy:.2%} ({self.unique_images:,} images)",
            ),
            ("calibration error", f"{self.calibration_error:.2%}"),
            ("calibration error, scaled", f"{self.scaled_calibration_error:.2%}"),
            ("temperature", f"{self.temperature:.3f} (fitted on {self.temperature_images})"),
            (
                "accuracy under common corruptions",
                f"{self.corruption_accuracy:.2%} (drawn by cifarzoo, "
                f"{self.corruption_images:,} images each)",
            ),
            ("AUROC of CIFAR-100, probability", f"{self.auroc_probability:.3f}"),
            ("AUROC of CIFAR-100, energy", f"{self.auroc_energy:.3f}"),
            (
                "accuracy under PGD-20, 8/255",
                f"{self.pgd_accuracy:.2%} ({self.pgd_images:,} images)",
            ),
        ]

    @override
    def table(self) -> Table:
        single = [(name, f"{accuracy:.2%}") for name, accuracy in self.by_corruption.items()]
        return Table(
            title="Scores",
            header=("what", "value"),
            rows=(*self.rows(), *single),
            note=f"{self.provenance.source}, {self.provenance.machine}",
        )

    def to_json(self) -> str:
        """Return the scores as JSON text."""
        return to_json(self)


def read_record(path: Path) -> RunRecord:
    """Read the JSON file of a run.

    Raises:
        RunError: the file cannot be read, or is not the record of a run.
    """
    return _read(path, RunRecord, "the record of a run")


def read_scores(path: Path) -> Scores:
    """Read the JSON file of a weights file's scores.

    Raises:
        RunError: the file cannot be read, or does not hold scores.
    """
    return _read(path, Scores, "a record of scores")


def _read(path: Path, kind: type[T], expected: str) -> T:
    try:
        return from_json(kind, path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except CifarZooError as error:
        raise RunError(f"{path} is not {expected}: {error}") from error
