"""Checks of the arguments that several pictures take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from cifarzoo.data.loader import is_dense
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation import predict as evaluation
from cifarzoo.evaluation.predict import Predictions
from cifarzoo.models.classifier import check_images
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate


def cpu_tensor(name: str, value: object) -> Tensor:
    """Return a tensor, detached and on the CPU."""
    if not isinstance(value, Tensor) or not is_dense(value):
        raise InvalidTypeError(f"{name} is a {type(value).__name__}: expected a dense torch.Tensor")
    return value.detach().cpu()


def to_rgb(images: Tensor) -> NDArray[np.float32]:
    """Return images, uint8 or float (N,3,H,W), as float32 (N,H,W,3) in [0, 1]."""
    images = cpu_tensor("images", images)
    check_images(images)
    if not images.numel():
        raise InvalidValueError(f"images have shape {tuple(images.shape)}: expected at least one")
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images.float().clamp(0, 1)
    return np.asarray(scaled.permute(0, 2, 3, 1).numpy(), dtype=np.float32)


def check_image(image: Tensor) -> Tensor:
    """Return one image (3,H,W) as a batch on the CPU, (1,3,H,W)."""
    image = cpu_tensor("image", image)
    if image.ndim != 3:
        hint = "; pass one image, such as images[0]" if image.ndim == 4 else ""
        raise InvalidValueError(f"image has shape {tuple(image.shape)}: expected (3, H, W){hint}")
    check_images(image[None])
    return image[None]


def check_labels(labels: Tensor, count: int, classes: int) -> Tensor:
    """Return labels as int64 (N,) on the CPU."""
    labels = cpu_tensor("labels", labels)
    evaluation.check_labels(labels, torch.empty(count, classes))
    return labels.long()


def check_probabilities(probabilities: Tensor | Predictions, count: int) -> Tensor:
    """Return probabilities as float64 (N,K) on the CPU."""
    if isinstance(probabilities, Predictions):
        probabilities = probabilities.probabilities
    return evaluation.check_probabilities(cpu_tensor("probabilities", probabilities), count)


def check_int(name: str, value: int, low: int, high: int | None = None) -> None:
    """Check that an integer is in low..high."""
    validate(name, value, Annotated[PositiveInt, Field(ge=low, le=high)])


def check_names(
    class_names: Sequence[str] | None, classes: int, source: object = None
) -> list[str]:
    """Return the names of the classes, by default the source's own, or their numbers."""
    own: Sequence[str] | None = getattr(source, "class_names", None)
    if class_names is None and own is not None and len(own) == classes:
        return list(own)
    if class_names is None:
        return [str(index) for index in range(classes)]
    if isinstance(class_names, str) or len(class_names) != classes:
        raise InvalidValueError(f"class_names is {class_names!r}: expected {classes} names")
    return list(class_names)


def check_indices(what: str, indices: Sequence[int] | None, count: int, *, first: int) -> list[int]:
    """Return the indices to draw, by default the first ones."""
    if indices is None:
        return list(range(min(first, count)))
    if not len(indices):
        raise InvalidValueError(f"indices is empty: expected at least one {what}")
    below = Annotated[NonNegativeInt, Field(lt=count)]
    return [validate(f"{what} index", index, below) for index in indices]


def check_conv(name: str, module: object) -> nn.Conv2d:
    """Return a module that must be a convolution of images."""
    if not isinstance(module, nn.Conv2d):
        raise InvalidTypeError(f"{name} is a {type(module).__name__}: expected a torch.nn.Conv2d")
    return module
