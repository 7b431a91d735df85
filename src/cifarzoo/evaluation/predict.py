"""Predictions of a model for images or a loader."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifarzoo.data.loader import Batch, Loaders, TensorLoader, labelled_batch
from cifarzoo.device import (
    autocast,
    keep_freed_memory,
    move_model,
    resolve_device,
    resolve_precision,
)
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.tta import views
from cifarzoo.recipe import PrecisionName, TtaName
from cifarzoo.validation import validate

__all__ = [
    "Predictions",
    "batches_to",
    "check_labels",
    "check_logits",
    "check_probabilities",
    "compute_logits",
    "evaluation_mode",
    "logits_of",
    "predict",
]

_BATCH_SIZE = 500  # for images that are passed as one tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Class probabilities of a set of images.

    Attributes:
        probabilities: float32 (N,K) on the CPU; each row sums to 1.
        labels: true classes, int64 (N,) on the CPU; None if unknown.
    """

    probabilities: Tensor
    labels: Tensor | None

    @property
    def classes(self) -> Tensor:
        """The most probable class of each image, int64 (N,)."""
        return self.probabilities.argmax(1)


def predict(
    model: nn.Module,
    data: Tensor | Iterable[Batch],
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "float32",
    tta: TtaName = "none",
) -> Predictions:
    """Predict the class probabilities of images.

    Args:
        model: maps images (N,3,H,W) to logits (N,K). It is moved to the device; its training or
            evaluation mode is restored.
        data: images (N,3,H,W) of a dtype that the model accepts, or batches of (images, labels).
        device: "auto", or anything that `torch.device` accepts.
        precision: as in `evaluate`.
        tta: test-time augmentation: "none", "flip" or "flip_translate".

    Returns:
        Probabilities (N,K), and the labels (N,) if the data has them.

    Raises:
        InvalidTypeError: an argument, the images or the labels have the wrong type.
        InvalidValueError: no images, a wrong shape, pixels out of range, a label outside the
            classes, NaN or infinite logits, or an unknown option.
    """
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    without_labels = isinstance(data, Tensor)
    if isinstance(data, Tensor):
        data = [(part, torch.zeros(len(part)).long()) for part in torch.split(data, _BATCH_SIZE)]
    logits, labels = compute_logits(model, data, device=target, dtype=dtype, tta=tta)
    check_logits(logits)
    return Predictions(
        probabilities=logits.softmax(1).cpu(), labels=None if without_labels else labels.cpu()
    )


def compute_logits(
    model: nn.Module,
    data: Iterable[Batch],
    *,
    device: torch.device,
    dtype: torch.dtype,
    tta: TtaName = "none",
) -> tuple[Tensor, Tensor]:
    """Return the float32 logits (N,K) and int64 labels (N,) of all images, on the device.

    The model and a `TensorLoader` are moved to the device. With test-time augmentation, logits are
    logarithms of the mean probabilities over the views. They may be NaN or infinite.

    Raises:
        InvalidTypeError: the model is not a module, or the data is not a loader of tensor pairs.
        InvalidValueError: no images, a wrong shape, or a label outside the classes.
    """
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"model is a {type(model).__name__}: expected a torch.nn.Module")
    if isinstance(data, Loaders) or not isinstance(data, Iterable):
        raise InvalidTypeError(
            f"data is a {type(data).__name__}: expected a single loader, such as loaders.test"
        )
    validate("tta", tta, TtaName)
    keep_freed_memory()
    move_model(model, device)
    if isinstance(data, TensorLoader):
        data = data.to(device)
    parts = []
    with evaluation_mode(model), autocast(device, dtype):
        for images, labels in batches_to(data, device):
            parts.append((_tta_logits(model, images, tta), labels))
    logits, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    check_labels(labels, logits)  # once, because it synchronizes a GPU
    return logits, labels.long()


def _tta_logits(model: nn.Module, images: Tensor, tta: TtaName) -> Tensor:
    if tta == "none":
        return logits_of(model, images)
    logs = [
        logits_of(model, view).log_softmax(1) + math.log(weight)
        for weight, view in views(images, tta)
    ]
    return torch.stack(logs).logsumexp(0)  # logarithms keep tiny probabilities above 0


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the float32 logits (N,K) of a batch.

    Raises:
        InvalidTypeError: the model does not accept the dtype of the images.
        InvalidValueError: the model does not return logits.
    """
    try:
        logits = model(images)
    except RuntimeError as error:
        if images.dtype == torch.float32:
            raise
        raise InvalidTypeError(
            f"the model does not accept {images.dtype} images: convert them to float32, or use "
            "ImageClassifier(Preprocess(), model)"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits)
        raise InvalidValueError(f"the model returned {shape}: expected logits (N, classes)")
    return logits.float()


def batches_to(data: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on the device, with images in channels_last layout.

    Raises:
        InvalidTypeError: a batch is not a pair of dense tensors.
        InvalidValueError: there is no batch, or a batch is empty.
    """
    total = 0
    for images, labels in map(labelled_batch, data):
        if not len(images):
            raise InvalidValueError(f"a batch has shape {tuple(images.shape)}: expected N >= 1")
        total += len(images)
        layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
        yield (
            images.to(device, non_blocking=True, memory_format=layout),
            labels.to(device, non_blocking=True),
        )
    if not total:
        raise InvalidValueError("the data is empty: expected at least one batch of images")


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients; restore each module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Check that labels (N,) are classes of logits (N,K); synchronizes a GPU.

    Raises:
        InvalidTypeError: the labels are not integers.
        InvalidValueError: their number is not N, or a label is outside 0..K-1.
    """
    if labels.shape != logits.shape[:1]:
        raise InvalidValueError(
            f"labels have shape {tuple(labels.shape)}: expected ({len(logits)},), one per image"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidTypeError(f"labels are {labels.dtype}: expected integers")
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= logits.shape[1]:
        raise InvalidValueError(
            f"labels are in {low}..{high}: expected 0..{logits.shape[1] - 1}, the model's classes"
        )


def check_logits(logits: Tensor) -> None:
    """Raise `InvalidValueError` unless logits (N,K) have a softmax; -inf excludes a class."""
    bad = ~logits.logsumexp(1).isfinite()
    if n := int(bad.sum()):
        raise InvalidValueError(
            f"logits of {n:,} of {len(bad):,} images are NaN or infinite: expected finite numbers"
        )


def check_probabilities(probabilities: Tensor, n: int) -> Tensor:
    """Return the probabilities (N,K) of `n` images as float64 on the CPU.

    Raises:
        InvalidValueError: there is not one row per image, or a row is not a distribution.
    """
    if probabilities.ndim != 2 or len(probabilities) != n or probabilities.is_complex():
        raise InvalidValueError(
            f"probabilities are {probabilities.dtype} of shape {tuple(probabilities.shape)}: "
            f"expected real numbers ({n}, classes)"
        )
    values = probabilities.detach().cpu().double()
    if not (values >= 0).all() or not ((values.sum(1) - 1).abs() < 1e-2).all():
        raise InvalidValueError(
            "probabilities are negative or do not sum to 1: expected a distribution in each row, "
            "such as logits.softmax(1)"
        )
    return values
