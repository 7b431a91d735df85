"""A labelled set of images in memory, and the checks that it must pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cifarzoo.errors import (
    EmptyLoaderError,
    LabelError,
    OptionError,
    RangeError,
    ShapeError,
    wrong_kind,
)
from cifarzoo.spec import require_dense, shape_hint

__all__ = ["ImageData", "check_labelled_images", "labelled_batch"]


class ImageData(NamedTuple):
    """Training and test images of one data set, decoded.

    Attributes:
        train_images: uint8 (N,3,32,32), stored channels_last.
        train_labels: int64 (N,).
        test_images: uint8 (M,3,32,32), stored channels_last.
        test_labels: int64 (M,).
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def check_labelled_images(
    images: Tensor, labels: Tensor, *, classes: tuple[str, ...] | None = None
) -> None:
    """Refuse images and labels that do not belong together.

    Args:
        images: what should be uint8 (N,3,H,W).
        labels: what should be int64 (N,) in 0..len(classes)-1.
        classes: the names of the labels; None sets no upper limit.

    Raises:
        OptionError: something else than dense tensors.
        ShapeError: images are not (N,3,H,W), or labels not (N,).
        EmptyLoaderError: there is no image.
        RangeError: images are not uint8.
        LabelError: labels are not int64, or out of range.
    """
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise wrong_kind(name, value, "a torch tensor; torch.as_tensor makes one of an array")
        require_dense(name, value)
    if images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape)
        hint = shape_hint(shape, 3)
        raise ShapeError(f"images have shape {shape}; needed is (N, 3, H, W){hint}")
    if not images.numel():
        raise EmptyLoaderError(f"images have shape {tuple(images.shape)}; needed is one or more")
    if images.dtype != torch.uint8:
        raise RangeError(
            f"images are {images.dtype}; needed is torch.uint8 (0..255); of floats "
            "in [0, 1]: (255 * images).round().to(torch.uint8)"
        )
    if labels.shape != images.shape[:1]:
        raise ShapeError(
            f"labels have shape {tuple(labels.shape)}; needed is ({len(images)},), one per image"
        )
    _check_labels(labels, classes)


def _check_labels(labels: Tensor, classes: tuple[str, ...] | None) -> None:
    if labels.dtype != torch.int64:
        raise LabelError(f"labels are {labels.dtype}; needed is torch.int64 (labels.long())")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise LabelError(f"the lowest label is {low}; allowed: 0 or more")
    if classes is not None and high >= len(classes):
        raise LabelError(f"the highest label is {high}; allowed: 0 to {len(classes) - 1}")


def labelled_batch(batch: object) -> tuple[Tensor, Tensor]:
    """Take a batch apart.

    Raises:
        OptionError: it is not a pair of dense tensors.
        ShapeError: one of them has no dimension.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, labels = batch
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            require_dense("a batch of images", images)
            require_dense("a batch of labels", labels)
            if images.ndim and labels.ndim:
                return images, labels
            raise ShapeError(
                f"the loader gave images of shape {tuple(images.shape)} and labels of shape "
                f"{tuple(labels.shape)}; needed are (N,C,H,W) and (N,)"
            )
    kinds = f"a {type(batch).__name__}"
    if isinstance(batch, tuple | list):
        kinds += f" of {len(batch)}: {', '.join(type(each).__name__ for each in batch[:4])}"
    raise OptionError(
        f"the loader gave {kinds}; needed are pairs (images, labels) of torch tensors, images "
        "(N,C,H,W) and labels (N,); with tensors at hand: TensorLoader(images, labels)"
    )
