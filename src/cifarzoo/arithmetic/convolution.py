"""Convolution of one image with one kernel, as on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from cifarzoo.errors import RangeError, ShapeError, one_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BoundaryName", "convolve2d"]

BoundaryName: TypeAlias = Literal["zero", "reflect", "valid"]
Grid: TypeAlias = "Tensor | npt.NDArray[Any] | Sequence[Sequence[float]]"


def convolve2d(image: Grid, kernel: Grid, *, boundary: BoundaryName = "zero") -> Tensor:
    """Convolve an image with a kernel: a true convolution, the kernel is flipped both ways.

    `torch.nn.Conv2d` does not flip; what it calls a convolution is a cross-correlation.

    Integers stay integers and are exact: two integer arguments give int64 (so that uint8 pixels
    cannot overflow; sums of 2**63 or more do, as torch's). Otherwise the type is torch's promotion
    of the two, and gradients flow.

    Args:
        image: (H,W), a tensor, an array or nested lists.
        kernel: (h,w), likewise; both odd unless the boundary is "valid".
        boundary: what lies beyond the image. "zero": zeros. "reflect": the image mirrored at the
            centre of its outermost pixels, which are not repeated (c b | a b c | b a): "reflect"
            in PyTorch and numpy, "mirror" in scipy.ndimage. Both keep the size. "valid": nothing,
            only places where the kernel lies inside the image count.

    Returns:
        (H,W), or (H-h+1,W-w+1) for "valid"; on the image's device.

    Raises:
        ShapeError: not a grid of numbers with two dimensions, empty, ragged, an even kernel where
            the size is kept, a kernel larger than the image for "valid", an image too small to
            be mirrored.
        OptionError: an unknown boundary.
        RangeError: a whole number of 2**63 or more.

    Example:
        >>> convolve2d([[1, 2, 3]], [[1, 0, -1]])
        tensor([[ 2,  2, -2]])
    """
    if boundary not in get_args(BoundaryName):
        raise one_of("boundary", boundary, get_args(BoundaryName))
    pixels = _grid("image", image)
    weights = _grid("kernel", kernel).to(pixels.device)
    if not (pixels.is_floating_point() or pixels.is_complex()):
        pixels = pixels.long()
    if not (weights.is_floating_point() or weights.is_complex()):
        weights = weights.long()
    return _valid(_extend(pixels, tuple(weights.shape), boundary), weights.flip(0, 1))


def _valid(padded: Tensor, flipped: Tensor) -> Tensor:
    """Sum over the kernel's taps; conv2d has no integer version, and this one is exact."""
    (height, width), (h, w) = padded.shape, flipped.shape
    rows, columns = height - h + 1, width - w + 1
    total = padded.new_zeros((), dtype=torch.result_type(padded, flipped)).expand(rows, columns)
    for y in range(h):
        for x in range(w):
            total = total + flipped[y, x] * padded[y : y + rows, x : x + columns]
    return total


def _extend(image: Tensor, kernel_shape: tuple[int, ...], boundary: BoundaryName) -> Tensor:
    shape = tuple(image.shape)
    if boundary == "valid":
        if any(k > n for k, n in zip(kernel_shape, shape, strict=True)):
            raise ShapeError(
                f"kernel {kernel_shape} does not fit into image {shape}; needed is one of at most "
                f"{shape}, or boundary='zero'"
            )
        return image
    for k in kernel_shape:
        if k % 2 == 0:
            raise ShapeError(
                f"kernel {kernel_shape} is even, it has no centre; with boundary={boundary!r} "
                f"use {k - 1} or {k + 1} instead of {k}, or boundary='valid'"
            )
    top, left = kernel_shape[0] // 2, kernel_shape[1] // 2
    if boundary == "zero":
        return torch.nn.functional.pad(image, (left, left, top, top))
    return image[_mirror(shape[0], top)[:, None], _mirror(shape[1], left)]


def _mirror(size: int, reach: int) -> Tensor:
    """Indices -reach..size-1+reach, folded back into 0..size-1."""
    if reach >= size:
        raise ShapeError(
            f"an image side of {size} is too small to be mirrored by {reach} pixels; needed is "
            f"{reach + 1} or more, a kernel side of at most {2 * size - 1}, or boundary='zero'"
        )
    last = size - 1
    return last - (last - torch.arange(-reach, size + reach).abs()).abs()


def _grid(name: str, values: Grid) -> Tensor:
    try:  # the copy takes read-only arrays, and flipped ones, whose strides are negative
        grid = torch.as_tensor(values.copy() if isinstance(values, np.ndarray) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"{name} cannot be read as a grid of numbers ({error}); needed is a tensor, an array "
            "or nested lists of shape (height, width)"
        ) from error
    if grid.layout != torch.strided or grid.is_meta:
        raise ShapeError(f"{name} is a sparse tensor, or has no values; give it dense: .to_dense()")
    if grid.dtype == torch.uint64 and bool((grid.view(torch.int64) < 0).any()):
        raise RangeError(f"{name} holds numbers of 2**63 or more; allowed are those of int64")
    if grid.ndim != 2 or grid.numel() == 0:
        hint = "; take one channel of one image at a time" if grid.ndim > 2 else ""
        raise ShapeError(
            f"{name} has shape {tuple(grid.shape)}; needed is (height, width), both 1 or more{hint}"
        )
    return grid
