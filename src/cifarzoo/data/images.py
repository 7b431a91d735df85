"""A labelled set of images in memory, and the checks that it must pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cifarzoo.errors import EmptyLoaderError, LabelError, RangeError, ShapeError, wrong_kind

__all__ = ["ImageData", "check_labelled_images"]


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
        OptionError: something else than tensors.
        ShapeError: images are not (N,3,H,W), or labels not (N,).
        EmptyLoaderError: there is no image.
        RangeError: images are not uint8.
        LabelError: labels are not int64, or out of range.
    """
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise wrong_kind(name, value, "a torch tensor; torch.as_tensor makes one of an array")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f"images have shape {tuple(images.shape)}; needed is (N, 3, H, W)")
    if not images.numel():
        raise EmptyLoaderError(f"images have shape {tuple(images.shape)}; needed is one or more")
    if images.dtype != torch.uint8:
        raise RangeError(f"images are {images.dtype}; needed is torch.uint8 (0..255)")
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
