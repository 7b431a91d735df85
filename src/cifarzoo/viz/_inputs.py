"""Checks of what is to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifarzoo.errors import LabelError, OptionError, ShapeError, wrong_kind
from cifarzoo.models.classifier import check_images
from cifarzoo.spec import require_dense

__all__ = [
    "check_indices",
    "check_labels",
    "check_names",
    "one_image",
    "require_images",
    "require_tensor",
    "rgb",
]

OF_PICTURES = "of a PIL image: torchvision.transforms.functional.pil_to_tensor"
OF_LISTS = "torch.as_tensor makes one of a list"


def rgb(images: Tensor) -> NDArray[np.float32]:
    """Turn images into what matplotlib draws.

    Args:
        images: uint8 or float in [0, 1], (N,3,H,W).

    Returns:
        float32 in [0, 1], (N,H,W,3).

    Raises:
        OptionError: not a dense tensor.
        ShapeError: not (N,3,H,W), or no image.
        RangeError: neither uint8 nor float in [0, 1].
    """
    require_images(images)
    images = images.detach().cpu()
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return np.asarray(scaled.permute(0, 2, 3, 1).numpy(), dtype=np.float32)


def require_images(images: Tensor) -> None:
    """Refuse what is not a batch of images.

    Raises:
        OptionError: not a dense tensor.
        ShapeError: not (N,3,H,W), or no image.
        RangeError: neither uint8 nor float in [0, 1].
    """
    require_tensor("images", images)
    check_images(images.detach().cpu())
    if not images.numel():
        shape = tuple(images.shape)
        raise ShapeError(f"images is empty, of shape {shape}; needed is at least one image")


def one_image(image: Tensor) -> Tensor:
    """Give one image a batch dimension, (3,H,W) to (1,3,H,W), and check it on the CPU.

    Raises:
        OptionError: not a dense tensor.
        ShapeError: not (3,H,W).
        RangeError: neither uint8 nor float in [0, 1].
    """
    require_tensor("image", image)
    if image.ndim != 3:
        hint = "; pick one of the batch: images[0]" if image.ndim == 4 else ""
        raise ShapeError(f"image has shape {tuple(image.shape)}; needed is (3, H, W){hint}")
    check_images(image[None].detach().cpu())
    return image[None]


def require_tensor(name: str, value: object, way_out: str = OF_PICTURES) -> None:
    """Refuse what is not a dense tensor.

    Raises:
        OptionError: that says what it is.
    """
    if not isinstance(value, Tensor):
        raise wrong_kind(name, value, f"a torch tensor ({way_out})")
    require_dense(name, value)


def check_indices(indices: Sequence[int] | None, count: int, *, what: str, first: int) -> list[int]:
    """Give the indices to draw: those asked for, or the first few.

    Args:
        indices: asked for; None takes the first few.
        count: how many there are.
        what: the noun in the error.
        first: how many "the first few" are.

    Raises:
        OptionError: none is asked for, or one is not in 0..count-1.
    """
    if indices is None:
        return list(range(min(first, count)))
    chosen: list[object] = list(indices)
    if not chosen:
        raise OptionError(f"indices is empty; allowed: None, or {what}s from 0 to {count - 1}")
    for index in chosen:
        if not isinstance(index, Integral) or not 0 <= int(index) < count:
            raise OptionError(f"{what} {index} does not exist; allowed: 0 to {count - 1}")
    return [int(index) for index in indices]


def check_labels(labels: Tensor, images: int, *, classes: int | None) -> list[int]:
    """Give labels as a list.

    Args:
        labels: integers, (N,).
        images: how many images they belong to.
        classes: how many classes there are; None if that is not known.

    Raises:
        OptionError: not a dense tensor.
        ShapeError: not one label per image.
        LabelError: not integers, or not in 0..classes-1.
    """
    require_tensor("labels", labels, OF_LISTS)
    if tuple(labels.shape) != (images,):
        raise ShapeError(f"labels have shape {tuple(labels.shape)}; needed is ({images},)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise LabelError(f"labels are {labels.dtype}; needed are integers")
    values = [int(label) for label in labels.tolist()]
    for label in values:
        if label < 0 or (classes is not None and label >= classes):
            top = "" if classes is None else f" to {classes - 1}"
            raise LabelError(f"label {label} does not exist; allowed: 0{top or ' or more'}")
    return values


def check_names(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """Give a name to every class: those asked for, or its number.

    Raises:
        OptionError: not as many names as classes.
    """
    if class_names is None:
        return [str(index) for index in range(classes)]
    if isinstance(class_names, str) or len(class_names) != classes:
        raise OptionError(f"class_names is {class_names!r}; needed are {classes} names, or None")
    return list(class_names)
