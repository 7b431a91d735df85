"""What a model takes images for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import Loaders
from cifarzoo.errors import EmptyLoaderError, OptionError, RangeError, one_of, wrong_kind
from cifarzoo.evaluation.score import predictions, require_model
from cifarzoo.hardware import keep_freed_memory, move_model, resolve_device, resolve_precision
from cifarzoo.spec import PrecisionName, TtaName, require_dense

__all__ = ["Predictions", "predict", "scored"]

AT_ONCE = 500  # images, of those that come as one tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What a model takes a set of images for.

    Attributes:
        probabilities: float32 (N,K) on the CPU, each row adding up to 1.
        labels: int64 (N,) on the CPU, the true classes; None where they are not known.
    """

    probabilities: Tensor
    labels: Tensor | None

    @property
    def classes(self) -> Tensor:
        """The likeliest class of each image, int64 (N,)."""
        return self.probabilities.argmax(1)


def predict(
    model: nn.Module,
    data: Tensor | Iterable[tuple[Tensor, Tensor]],
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
) -> Predictions:
    """Give the probability of every class for every image.

    Args:
        model: maps images (N,3,H,W) to logits (N,K); it is moved to the device, its training or
            evaluation mode is left as it was.
        data: images (N,3,H,W), as the model takes them; or batches of (images, labels), such as
            `loaders.test`.
        device: "auto", or what `torch.device` takes.
        precision: "auto" is bfloat16 where the device is faster in it, else float32.
        tta: test-time augmentation: "none", "flip" or "flip_translate".

    Returns:
        Probabilities (N,K), and the labels (N,) where the data has them.

    Raises:
        EmptyLoaderError: there is no image.
        LabelError: a label is outside the model's classes.
        OptionError: a name is not known, the device is not there, or data is something else.
        RangeError: pixels that the model does not take; models of the zoo take uint8, and float
            in [0, 1]. Or the model gives NaN or infinity.
        ShapeError: images or labels have a wrong shape; test-time augmentation takes (N,C,H,W).
    """
    images_alone = isinstance(data, Tensor)
    batches = _batches(data) if isinstance(data, Tensor) else data
    logits, labels = scored(model, batches, device=device, precision=precision, tta=tta)
    return Predictions(
        probabilities=logits.softmax(1).cpu(), labels=None if images_alone else labels.cpu()
    )


def _batches(images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    require_dense("data", images)
    if not images.ndim or not len(images):
        raise EmptyLoaderError(f"data has shape {tuple(images.shape)}: it holds no image")
    for batch in torch.split(images, AT_ONCE):
        yield batch, torch.zeros(len(batch), dtype=torch.int64, device=images.device)


def scored(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: str | torch.device,
    precision: PrecisionName,
    tta: TtaName,
) -> tuple[Tensor, Tensor]:
    """Run a model over a loader: float32 logits (N,K) and int64 labels (N,), on the device.

    Raises:
        EmptyLoaderError, LabelError, OptionError, RangeError, ShapeError: as `predict` does.
    """
    require_model(model)
    if isinstance(data, Loaders):
        raise OptionError("data is a Loaders; pass one of them, such as loaders.test")
    if not hasattr(data, "__iter__"):
        raise wrong_kind("data", data, "a loader of (images, labels)")
    if tta not in get_args(TtaName):
        raise one_of("tta", tta, get_args(TtaName))
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    keep_freed_memory()
    move_model(model, target)
    logits, labels = predictions(model, data, device=target, dtype=dtype, tta=tta)
    _require_finite(logits)
    return logits, labels


def _require_finite(logits: Tensor) -> None:
    """Refuse logits without probabilities: NaN, or infinity. A class may be ruled out by -inf."""
    bad = ~logits.logsumexp(1).isfinite()
    if bool(bad.any()):
        first, n = int(bad.nonzero()[0]), int(bad.sum())
        raise RangeError(
            f"the model's logits are NaN or infinite for {n:,} of {len(bad):,} images, the first "
            f"of them number {first}: {logits[first].tolist()}; look at its weights, or compute "
            'with precision="float32"'
        )
