"""Predictions of a model for images or a loader."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.data.image_file import SIDE, Images, is_images, to_tensor
from cifarzoo.data.loader import Batch, Loaders, TensorLoader, labelled_batch
from cifarzoo.device import (
    autocast,
    is_interactive,
    keep_freed_memory,
    move_model,
    plain_float32,
    resolve_device,
    resolve_precision,
)
from cifarzoo.display import HasTable, Table
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.classifier import (
    Classifier,
    Classify,
    as_classify,
    evaluation_copy,
    evaluation_mode,
)
from cifarzoo.evaluation.tta import views
from cifarzoo.recipe import PrecisionName, TtaName
from cifarzoo.validation import validate

__all__ = [
    "Predictions",
    "batches_to",
    "check_labels",
    "check_logits",
    "check_probabilities",
    "class_names_of",
    "compute_logits",
    "logits_of",
    "predict",
    "require_classes",
    "unshared",
]

_BATCH_SIZE = 500  # for images that are not in batches
_MAX_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Predictions(HasTable):
    """Class probabilities of a set of images.

    Attributes:
        probabilities: float32 (N,K) on the CPU; each row sums to 1.
        labels: true classes, int64 (N,) on the CPU; None if unknown.
        class_names: names of the K classes; None if unknown.
    """

    probabilities: Tensor
    labels: Tensor | None
    class_names: tuple[str, ...] | None = None

    @property
    def classes(self) -> Tensor:
        """The most probable class of each image, int64 (N,)."""
        return self.probabilities.argmax(1)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the most probable class of each image; its number if it has no name."""
        return tuple(map(self._name, self.classes.tolist()))

    def _name(self, index: int) -> str:
        return str(index) if self.class_names is None else self.class_names[index]

    @override
    def __repr__(self) -> str:
        n, classes = self.probabilities.shape
        accuracy = ""
        if self.labels is not None:
            accuracy = f", accuracy {(self.classes == self.labels).double().mean():.2%}"
        return f"Predictions({n:,} image{'' if n == 1 else 's'}, {classes} classes{accuracy})"

    @override
    def table(self) -> Table:
        columns = {
            "image": tuple(map(str, range(_MAX_ROWS))),
            "class": self.names[:_MAX_ROWS],
            "probability": tuple(f"{p:.2%}" for p in self.probabilities[:_MAX_ROWS].amax(1)),
        }
        if self.labels is not None:
            columns["label"] = tuple(map(self._name, self.labels[:_MAX_ROWS].tolist()))
        n = len(self.probabilities)
        return Table(
            title=repr(self),
            header=tuple(columns),
            rows=tuple(zip(*columns.values(), strict=False)),
            numbers=("image", "probability"),
            note=f"the first {_MAX_ROWS} images" if n > _MAX_ROWS else "",
        )


@torch.inference_mode(mode=False)
def predict(
    model: Classifier,
    data: Images | Iterable[Batch],
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "float32",
    tta: TtaName = "none",
    progress: bool = True,
) -> Predictions:
    """Predict the class probabilities of images.

    Several threads may use a model at the same time, in evaluation or in training mode.

    Args:
        model: maps images (N,3,H,W) to logits (N,K): a module, which is moved to the device and
            evaluated in evaluation mode; an exported program; an ONNX session; or a function.
        data: images, or batches of (images, labels). Images are a tensor (N,3,H,W) of a dtype that
            the model accepts, an array, (N,3,H,W) or (N,H,W,3), a file, an image of Pillow, a
            single one of these, or a list. Files, images of Pillow and arrays (N,H,W,3) are
            centre-cropped and resized to the model's `image_size`, 32 pixels by default.
        device: "auto", or anything that `torch.device` accepts. For a function, "auto" is the CPU.
        precision: as in `evaluate`.
        tta: test-time augmentation: "none", "flip", "flip_translate" or "adaptive", as in
            `evaluate`.
        progress: whether to show a progress bar on a terminal or in a notebook.

    Returns:
        Probabilities (N,K), the labels (N,) if the data has them, and the names of the classes if
        the data or the model has them, as `classes` or `class_names`.

    Raises:
        InvalidTypeError: an argument, the images or the labels have the wrong type.
        InvalidValueError: no images, a wrong shape, pixels out of range, a label outside the
            classes, NaN or infinite logits, or an unknown option.

    Example:
        >>> predict(model, ["cat.jpg", "dog.jpg"]).names  # doctest: +SKIP
        ('cat', 'dog')
    """
    classify, target = unshared(model, device)
    dtype = resolve_precision(precision, target)
    size = getattr(model, "image_size", None)
    batches, is_labelled = _batches(data, size if isinstance(size, int) else SIDE)
    logits, labels = compute_logits(
        classify, batches, device=target, dtype=dtype, tta=tta, progress=progress
    )
    check_logits(logits)
    return Predictions(
        probabilities=logits.softmax(1).cpu(),
        labels=labels.cpu() if is_labelled else None,
        class_names=class_names_of(data, model, logits.shape[1]),
    )


def _batches(data: Images | Iterable[Batch], side: int) -> tuple[Iterable[Batch], bool]:
    """Return batches, and whether they have labels."""
    if not is_images(data):
        return data, True
    images = to_tensor(data, side=side)
    labels = torch.zeros(len(images), dtype=torch.int64)
    if not isinstance(data, Tensor) and images.dtype == torch.uint8 and len(images):
        return TensorLoader(images, labels, batch_size=_BATCH_SIZE), False
    parts = (torch.split(each, _BATCH_SIZE) for each in (images, labels))
    return list(zip(*parts, strict=True)), False


def unshared(
    model: Classifier, device: str | torch.device
) -> tuple[nn.Module | Classify, torch.device]:
    """Return a model that no other thread uses in training mode, and the device to evaluate it on.

    Raises:
        InvalidTypeError: the model is not a `Classifier`.
        InvalidValueError: the device cannot be used.
    """
    classify = as_classify(model)
    if not isinstance(classify, nn.Module):
        return classify, resolve_device("cpu" if device == "auto" else device)
    target = resolve_device(device)
    move_model(classify, target)  # before the copy, which has buffers of its own
    return evaluation_copy(classify), target


def class_names_of(data: object, model: object, classes: int | None) -> tuple[str, ...] | None:
    """Return the names that the data, its dataset or the model has of K classes (None: any K)."""
    owners = (data, "classes"), (getattr(data, "dataset", None), "classes"), (model, "class_names")
    for owner, attribute in owners:
        names = getattr(owner, attribute, None)
        if isinstance(names, list | tuple) and classes in (None, len(names)):
            return tuple(map(str, names))
    return None


def require_classes(data: object, classes: int) -> None:
    """Raise `InvalidValueError` if a `TensorLoader` names another number of classes."""
    names = data.classes if isinstance(data, TensorLoader) else None
    if names and len(names) != classes:
        raise InvalidValueError(
            f"the model has {classes} classes and the data {len(names)} ({names[0]} to "
            f"{names[-1]}): expected the same number"
        )


def compute_logits(
    model: nn.Module | Classify,
    data: Iterable[Batch],
    *,
    device: torch.device,
    dtype: torch.dtype,
    tta: TtaName = "none",
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the float32 logits (N,K) and int64 labels (N,) of all images, on the device.

    The model and a `TensorLoader` are moved to the device. With test-time augmentation, logits are
    logarithms of the mean probabilities over the views. They may be NaN or infinite.

    Raises:
        InvalidTypeError: the data is not a loader of tensor pairs.
        InvalidValueError: no images, a wrong shape, or a label outside the classes.
    """
    if isinstance(data, Loaders) or not isinstance(data, Iterable):
        raise InvalidTypeError(
            f"data is a {type(data).__name__}: expected a single loader, such as loaders.test"
        )
    is_batch = isinstance(data, list | tuple) and bool(data) and isinstance(data[0], Tensor)
    if is_batch or is_images(data):
        raise InvalidTypeError(
            f"data is a {type(data).__name__}: expected batches of (images, labels), such as "
            "loaders.test or [(images, labels)]"
        )
    validate("tta", tta, TtaName)
    keep_freed_memory()
    if isinstance(model, nn.Module):
        move_model(model, device)
    if isinstance(data, TensorLoader):
        data = data.to(device)
    parts = []
    is_plain = plain_float32(model, device)
    dtype = torch.float32 if is_plain else dtype
    batches = batches_to(data, device, channels_last=not is_plain)
    with evaluation_mode(model), autocast(device, dtype, model):
        for images, labels in _with_bar(batches, data, shown=progress):
            parts.append((_tta_logits(model, images, tta), labels))
    logits, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    check_labels(labels, logits)  # once, because it synchronizes a GPU
    return logits, labels


def _with_bar(batches: Iterator[Batch], data: object, *, shown: bool) -> Iterable[Batch]:
    """Show a progress bar if a terminal or notebook would wait for more than a second."""
    if not shown or not is_interactive():
        return batches
    from tqdm.auto import tqdm

    total = operator.length_hint(data)  # 0 for an IterableDataset
    return tqdm(batches, total=total or None, unit="batch", delay=1, leave=False)


def _tta_logits(model: Classify, images: Tensor, tta: TtaName) -> Tensor:
    plain = logits_of(model, images)
    if tta == "none":
        return plain
    if tta != "adaptive":
        return _mean_over_views(model, images, plain, tta)
    logs = plain.log_softmax(1)
    unsure = logs.amax(1).topk(math.ceil(len(images) / 4), largest=False).indices
    logs[unsure] = _mean_over_views(model, images[unsure], plain[unsure], "flip_translate")
    return logs


def _mean_over_views(
    model: Classify, images: Tensor, plain: Tensor, tta: Literal["flip", "flip_translate"]
) -> Tensor:
    """Return logarithms of the mean probabilities, given the logits of the images themselves."""
    (share, _), *others = views(images, tta)
    logs = [plain.log_softmax(1) + math.log(share)]
    logs += [logits_of(model, view).log_softmax(1) + math.log(weight) for weight, view in others]
    return torch.stack(logs).logsumexp(0)  # logarithms keep tiny probabilities above 0


def logits_of(model: Classify, images: Tensor) -> Tensor:
    """Return the float32 logits (N,K) of a batch.

    Raises:
        InvalidTypeError: the model does not accept the dtype of the images.
        InvalidValueError: the model does not return logits.
    """
    logits: Any
    try:
        logits = model(images)
    except RuntimeError as error:
        parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
        dtype = next(parameters, images).dtype
        is_about_types = "type" in str(error)  # such as "must have the same dtype"
        if images.is_floating_point() and dtype != images.dtype and is_about_types:
            raise InvalidTypeError(
                f"the model has {dtype} parameters and the images are {images.dtype}: convert the "
                "model with model.float()"
            ) from error
        if images.dtype == torch.float32:
            raise
        raise InvalidTypeError(
            f"the model does not accept {images.dtype} images: convert them to float32, or use "
            "ImageClassifier(Preprocess(), model)"
        ) from error
    if isinstance(logits, np.ndarray):
        logits = torch.tensor(logits)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits)
        raise InvalidValueError(f"the model returned {shape}: expected logits (N, classes)")
    return logits.to(images.device, torch.float32)


def batches_to(
    data: Iterable[Batch], device: torch.device, *, channels_last: bool = True
) -> Iterator[Batch]:
    """Yield batches on the device, with labels in int64.

    Args:
        data: batches of images and labels.
        device: target device.
        channels_last: layout of the images; False makes them contiguous.

    Raises:
        InvalidTypeError: a batch is not a pair of dense tensors.
        InvalidValueError: there is no batch, or a batch is empty.
    """
    total = 0
    for images, labels in map(labelled_batch, data):
        if not len(images):
            raise InvalidValueError(f"a batch has shape {tuple(images.shape)}: expected N >= 1")
        total += len(images)
        # Tensors of inference mode cannot be saved for a backward pass.
        if images.is_inference() or labels.is_inference():
            images, labels = images.clone(), labels.clone()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        layout = layout if images.ndim == 4 else torch.preserve_format
        dtype = torch.int64 if _is_integer(labels) else labels.dtype
        yield (
            images.to(device, non_blocking=True, memory_format=layout),
            labels.to(device, dtype, non_blocking=True),
        )
    if not total:
        raise InvalidValueError("the data is empty: expected at least one batch of images")


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
    if not _is_integer(labels):
        raise InvalidTypeError(f"labels are {labels.dtype}: expected integers")
    low, high = (int(value) for value in torch.aminmax(labels.long()))  # unsigned has no aminmax
    if low < 0 or high >= logits.shape[1]:
        raise InvalidValueError(
            f"labels are in {low}..{high}: expected 0..{logits.shape[1] - 1}, the model's classes"
        )


def _is_integer(labels: Tensor) -> bool:
    return not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)


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
