"""The final score of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifarzoo.display import Display, Shown
from cifarzoo.errors import ShapeError
from cifarzoo.evaluation.predict import scored
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.spec import PrecisionName, TtaName

__all__ = ["Evaluation", "evaluate", "evaluation_of"]

_CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation(Shown):
    """How well a model does on a set of images.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of images classified right, in [0, 1].
        interval: 95 % Wilson interval of the accuracy, for the finite number of images.
        per_class: accuracy of each class, in [0, 1]; NaN for a class without images.
        confusion: int64 (K,K) on the CPU: rows are true classes, columns predicted ones.
        calibration_error: expected calibration error over 15 equal bins, in [0, 1]
            (arXiv 1706.04599).
        n: number of images.
        tta: the test-time augmentation that was used; "none" is a single view.
    """

    loss: float
    accuracy: float
    interval: tuple[float, float]
    per_class: tuple[float, ...]
    confusion: Tensor
    calibration_error: float
    n: int
    tta: TtaName = "none"

    def __str__(self) -> str:
        low, high = self.interval
        views = "" if self.tta == "none" else f" with {self.tta} test-time augmentation"
        return (
            f"accuracy {self.accuracy:.2%}{views} (95 % interval {low:.2%} to {high:.2%}, "
            f"{self.n} images), loss {self.loss:.4f}"
        )

    def _display(self) -> Display:
        low, high = self.interval
        rows = [
            ("accuracy", f"{self.accuracy:.2%}"),
            ("95 % interval", f"{low:.2%} to {high:.2%}"),
            ("loss", f"{self.loss:.4f} nats"),
            ("calibration error", f"{self.calibration_error:.2%}"),
            ("images", f"{self.n:,}"),
            ("test-time augmentation", self.tta),
            *((f"class {i}", f"{share:.2%}") for i, share in enumerate(self.per_class)),
        ]
        return Display(
            title="Evaluation", header=("what", "value"), rows=tuple(rows), numbers=("value",)
        )


def evaluate(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
) -> Evaluation:
    """Score a model over every image of a loader.

    Args:
        model: maps images (N,3,H,W) to logits (N,K); it is moved to the device, its training or
            evaluation mode is left as it was.
        data: batches of (images, labels); labels are int64 (N,).
        device: "auto", or what `torch.device` takes.
        precision: "auto" is bfloat16 where the device is faster in it, else float32.
        tta: test-time augmentation: "none", "flip" or "flip_translate".

    Returns:
        Accuracy with its interval, mean loss and confusion matrix, over all N images.

    Raises:
        EmptyLoaderError: the loader gave nothing.
        LabelError: a label is outside the model's classes.
        OptionError: a name is not known, or the device is not there.
        RangeError: pixels that the model does not take; models of the zoo take uint8, and float
            in [0, 1]; a module of your own is given what the loader gives. Or the model gives NaN
            or infinity.
        ShapeError: images or labels have a wrong shape; test-time augmentation takes (N,C,H,W).
    """
    logits, labels = scored(model, data, device=device, precision=precision, tta=tta)
    return evaluation_of(logits, labels, tta=tta)


def evaluation_of(logits: Tensor, labels: Tensor, *, tta: TtaName) -> Evaluation:
    """Score what a model says of images: logits (N,K) against labels (N,).

    Raises:
        ShapeError: there are fewer than two classes.
    """
    from torchmetrics.functional.classification import (
        multiclass_calibration_error,
        multiclass_confusion_matrix,
    )

    classes = logits.shape[1]
    if classes < 2:
        raise ShapeError(f"logits have shape {tuple(logits.shape)}; needed are 2 classes or more")
    confusion = multiclass_confusion_matrix(logits, labels, classes).cpu()
    calibration = multiclass_calibration_error(
        logits.softmax(1), labels, classes, n_bins=_CALIBRATION_BINS
    )
    correct = int(confusion.trace())
    return Evaluation(
        loss=nn.functional.cross_entropy(logits, labels).item(),
        accuracy=correct / len(labels),
        interval=accuracy_interval(correct, len(labels)),
        per_class=tuple((confusion.diag() / confusion.sum(1)).tolist()),
        confusion=confusion,
        calibration_error=calibration.item(),
        n=len(labels),
        tta=tta,
    )
