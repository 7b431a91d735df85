"""Convolution of an image with a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.validation import validate

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["convolve2d"]

BoundaryName: TypeAlias = Literal["zero", "reflect"]
Grid: TypeAlias = "Tensor | npt.NDArray[Any] | Sequence[Sequence[float]]"


def convolve2d(image: Grid, kernel: Grid, *, boundary: BoundaryName = "zero") -> Tensor:
    """Convolve an image with a kernel; unlike `torch.nn.Conv2d`, flip the kernel.

    Args:
        image: tensor, array or nested lists of shape (H,W).
        kernel: kernel of shape (h,w), both odd.
        boundary: padding mode: "zero", or "reflect" to mirror the image at the centre of its
            outermost pixels (c b | a b c | b a), as in PyTorch.

    Returns:
        (H,W) on the CPU; int64 if image and kernel hold integers, otherwise float64.

    Raises:
        InvalidTypeError: the image or the kernel is not a grid of numbers.
        InvalidValueError: a grid is empty or not two-dimensional, a side of the kernel is even, or
            the boundary is unknown.

    Example:
        >>> convolve2d([[1, 2, 3]], [[1, 0, -1]])
        tensor([[ 2,  2, -2]])
    """
    validate("boundary", boundary, BoundaryName)
    pixels, weights = _grid("image", image), _grid("kernel", kernel)
    if not all(side % 2 for side in weights.shape):
        raise InvalidValueError(f"kernel has shape {weights.shape}: expected odd sides")
    from scipy.ndimage import convolve

    pixels = pixels.astype(np.result_type(pixels, weights))
    zero = boundary == "zero"
    return torch.from_numpy(convolve(pixels, weights, mode="constant" if zero else "mirror"))


def _grid(name: str, values: Grid) -> npt.NDArray[Any]:
    try:
        grid = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        grid = grid.astype(np.int64 if grid.dtype.kind in "biu" else np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidTypeError(
            f"{name} is a {type(values).__name__}: expected a grid of numbers ({error})"
        ) from error
    if grid.ndim != 2 or not grid.size:
        raise InvalidValueError(f"{name} has shape {grid.shape}: expected (height, width)")
    return grid
