"""Evaluation of a model on labelled images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cifarzoo.data.loader import Batch
from cifarzoo.device import resolve_precision
from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.classifier import Classifier
from cifarzoo.evaluation.predict import (
    check_logits,
    class_names_of,
    compute_logits,
    require_classes,
    unshared,
)
from cifarzoo.evaluation.statistics import accuracy_interval, calibration_error
from cifarzoo.recipe import PrecisionName, TtaName
from cifarzoo.record import Evaluation

__all__ = ["evaluate", "evaluation_from_logits"]


@torch.inference_mode(mode=False)
def evaluate(
    model: Classifier,
    data: Iterable[Batch],
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "float32",
    tta: TtaName = "none",
    progress: bool = True,
) -> Evaluation:
    """Score a model on every image of a loader.

    Several threads may use a model at the same time, in evaluation or in training mode.

    Args:
        model: maps images (N,3,H,W) to logits (N,K): a module, which is moved to the device and
            evaluated in evaluation mode; an exported program; an ONNX session; or a function.
        data: batches of (images, labels); labels are integers (N,). A `TensorLoader` is moved to
            the device once.
        device: "auto", or anything that `torch.device` accepts. For a function, "auto" is the CPU.
        precision: precision of convolutions and matrix products. "auto" is bfloat16 where the
            device is faster in it; only float32 reproduces a card's accuracy to the digit.
        tta: test-time augmentation: "none"; "flip" averages the probabilities of each image and its
            mirror image, "flip_translate" of both in three places; "adaptive" does the latter for
            the least confident quarter of each batch only, 2.25 passes instead of 6.
        progress: whether to show a progress bar on a terminal or in a notebook.

    Raises:
        InvalidTypeError: an argument, the images or the labels have the wrong type.
        InvalidValueError: no images, a wrong shape, pixels out of range, a label outside the
            classes, a loader that names another number of classes, NaN or infinite logits, or an
            unknown option.

    Example:
        >>> print(evaluate(model, cifar10_loaders().test))  # doctest: +SKIP
        accuracy 94.22% (95 % interval 93.75% to 94.66%, 10000 images), loss 0.1815
    """
    classify, target = unshared(model, device)
    dtype = resolve_precision(precision, target)
    logits, labels = compute_logits(
        classify, data, device=target, dtype=dtype, tta=tta, progress=progress
    )
    require_classes(data, logits.shape[1])
    names = class_names_of(data, model, logits.shape[1])
    return evaluation_from_logits(logits, labels, tta=tta, class_names=names)


def evaluation_from_logits(
    logits: Tensor,
    labels: Tensor,
    *,
    tta: TtaName = "none",
    class_names: tuple[str, ...] | None = None,
) -> Evaluation:
    """Score logits, float32 (N,K), against labels, int64 (N,) in 0..K-1.

    Raises:
        InvalidValueError: fewer than two classes, or NaN or infinite logits.
    """
    n, classes = logits.shape
    if classes < 2:
        raise InvalidValueError(f"logits have shape {(n, classes)}: expected two or more classes")
    check_logits(logits)
    cells = classes * labels + logits.argmax(1)
    confusion = cells.bincount(minlength=classes**2).reshape(classes, classes).cpu()
    correct = int(confusion.trace())
    return Evaluation(
        loss=nn.functional.cross_entropy(logits, labels).item(),
        accuracy=correct / n,
        interval=accuracy_interval(correct, n),
        per_class=tuple((confusion.diag() / confusion.sum(1)).tolist()),
        calibration_error=calibration_error(logits.softmax(1), labels),
        n=n,
        tta=tta,
        confusion=confusion,
        class_names=class_names,
    )
