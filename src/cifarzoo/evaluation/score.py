"""Running a model over a loader without training it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from cifarzoo.data.images import labelled_batch
from cifarzoo.errors import (
    EmptyLoaderError,
    LabelError,
    RangeError,
    ShapeError,
    wrong_kind,
)
from cifarzoo.evaluation.tta import views
from cifarzoo.hardware import autocast
from cifarzoo.spec import TtaName, require_dense

__all__ = [
    "batches_to",
    "check_labels",
    "check_shapes",
    "evaluation_mode",
    "logits_of",
    "require_model",
    "loss_and_accuracy",
    "predictions",
]


def check_shapes(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that are not one a row of the logits.

    Raises:
        ShapeError: logits are not (N,K), or labels not (N,).
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ShapeError(
            f"labels have shape {tuple(labels.shape)} and logits {tuple(logits.shape)}; needed "
            "are labels (N,) and logits (N, classes)"
        )


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that are no classes of the logits; on a GPU it waits for them.

    Raises:
        ShapeError: logits are not (N,K), or labels not (N,).
        LabelError: labels are not integers in 0..K-1.
    """
    check_shapes(labels, logits)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise LabelError(f"labels are {labels.dtype}; needed are integers, best int64")
    low, high = (int(value) for value in torch.aminmax(labels))
    classes = logits.shape[1]
    if low < 0 or high >= classes:
        raise LabelError(
            f"labels lie in {low}..{high}; the model has {classes} classes, so 0..{classes - 1} "
            "are allowed; build it with another num_classes, or mend the labels"
        )


def check_probabilities(probabilities: Tensor, images: int) -> Tensor:
    """Give probabilities as float64 on the CPU.

    Args:
        probabilities: (N,K), each row adding up to 1.
        images: how many images they belong to.

    Raises:
        OptionError: not a dense tensor.
        ShapeError: not one row per image.
        RangeError: not real numbers, a row does not add up to 1, or a value is negative or NaN.
    """
    if not isinstance(probabilities, Tensor):
        raise wrong_kind("probabilities", probabilities, "a torch tensor (N, classes)")
    require_dense("probabilities", probabilities)
    shape = tuple(probabilities.shape)
    if len(shape) != 2 or shape[0] != images or not shape[1]:
        raise ShapeError(f"probabilities have shape {shape}; needed is ({images}, classes)")
    if probabilities.is_complex():
        raise RangeError(f"probabilities are {probabilities.dtype}; needed are real numbers")
    values = probabilities.detach().cpu().double()
    totals = values.sum(1)
    if bool((values < 0).any()) or not torch.allclose(totals, torch.ones_like(totals), atol=1e-2):
        raise RangeError(
            "probabilities do not add up to 1 for each image, or some are negative or NaN; "
            "of logits take the softmax: logits.softmax(1)"
        )
    return values


def require_model(model: object) -> None:
    """Refuse what is not a module.

    Raises:
        OptionError: it is something else.
    """
    if not isinstance(model, nn.Module):
        raise wrong_kind("model", model, "a torch.nn.Module, such as build_model(name) gives")


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Run a model: float32 logits (N,K) of images (N,C,H,W).

    Raises:
        RangeError: the images are not float32, and the model cannot take them.
        ShapeError: the model gives something else than a tensor; or the batch is too small for a
            batch norm that is trained.
    """
    try:
        logits = model(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ShapeError(
            f"a batch norm has one value per channel to learn from in a batch of shape "
            f"{tuple(images.shape)}; choose a batch size that leaves no single image over, or "
            "a loader that drops its last batch"
        ) from error
    except RuntimeError as error:
        if images.dtype == torch.float32:
            raise
        raise RangeError(
            f"the model cannot take {images.dtype} images ({str(error).partition(chr(10))[0]}); "
            "give it float32, or wrap it: ImageClassifier(Preprocess(), model) takes uint8 and "
            "any float in [0, 1]"
        ) from error
    if not isinstance(logits, Tensor):
        raise ShapeError(
            f"the model gave a {type(logits).__name__}; needed are its logits alone, a tensor "
            "(N, classes)"
        )
    return logits.float()


def batches_to(
    data: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Move batches to the device, images in channels-last order.

    Raises:
        EmptyLoaderError: there is no batch, or a batch holds no image.
        OptionError: a batch is not a pair of dense tensors.
    """
    empty = True
    for images, labels in map(labelled_batch, data):
        if not len(images):
            raise EmptyLoaderError(f"a batch has shape {tuple(images.shape)}: it holds no image")
        empty = False
        layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
        yield (
            images.to(device, non_blocking=True, memory_format=layout),
            labels.to(device, non_blocking=True),
        )
    if empty:
        raise EmptyLoaderError(
            "the loader gave no batch; a training loader that drops its last batch gives none if "
            "it has fewer images than its batch size"
        )


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode and each one back into its own mode after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def predictions(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
    dtype: torch.dtype,
    tta: TtaName = "none",
) -> tuple[Tensor, Tensor]:
    """Give float32 logits (N,K) and int64 labels (N,) of all images, on the device.

    With test-time augmentation the logits are the logarithm of the views' mean probability.

    Raises:
        EmptyLoaderError: the loader gave nothing.
        LabelError: a label is outside the classes.
        ShapeError: the logits or labels have a wrong shape.
    """
    scored: list[tuple[Tensor, Tensor]] = []
    with evaluation_mode(model), autocast(device, dtype):
        for images, labels in batches_to(data, device):
            logits = _logits(model, images, tta)
            check_shapes(labels, logits)
            scored.append((logits, labels))
    logits, labels = (torch.cat(parts) for parts in zip(*scored, strict=True))
    check_labels(labels, logits)  # once: on a GPU, to look at a batch is to wait for it
    return logits, labels.long()


def _logits(model: nn.Module, images: Tensor, tta: TtaName) -> Tensor:
    if tta == "none":
        return logits_of(model, images)
    logs = [
        logits_of(model, view).log_softmax(1) + math.log(weight)
        for weight, view in views(images, tta)
    ]
    return torch.stack(logs).logsumexp(0)  # a small probability stays above zero


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def loss_and_accuracy(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device,
    dtype: torch.dtype,
    total: Callable[[Tensor], Tensor] = _itself,
) -> tuple[float, float]:
    """Give mean cross-entropy and accuracy in [0, 1] over all images.

    Args:
        model: maps images to logits.
        data: the images, or this process's share of them.
        device: that they are moved to.
        dtype: that it is computed in.
        total: adds the sums of all processes, float64 (3,); by default there is one.
    """
    logits, labels = predictions(model, data, device=device, dtype=dtype)
    loss = nn.functional.cross_entropy(logits, labels).item()
    right, n = int((logits.argmax(1) == labels).sum()), len(labels)
    sums = total(torch.tensor([loss * n, right, n], dtype=torch.float64))
    loss_sum, right_sum, images = sums.tolist()
    return loss_sum / images, right_sum / images
