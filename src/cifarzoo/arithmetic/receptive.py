"""Receptive fields, measured: a NaN in an image reaches all outputs that depend on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.backends import cudnn, nnpack
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from cifarzoo.arithmetic.forward import check_model, forward, zero_images
from cifarzoo.errors import InvalidValueError, suggest
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate

__all__ = ["receptive_area", "receptive_fields"]

_PIXELS_AT_ONCE = 16 * 32 * 32  # larger batches need more memory and are no faster
_THIN = 4  # width in pixels of thin images

Extents: TypeAlias = dict[str, tuple[Tensor, Tensor]]
Reached: TypeAlias = dict[str, Tensor | None]


def receptive_fields(model: nn.Module, input_size: tuple[int, ...]) -> dict[str, int]:
    """Return the longest side of each module's receptive field, in pixels of the input.

    Args:
        model: any module that takes one batch of images.
        input_size: shape of one image.

    Returns:
        The sides by module name, without modules whose output does not depend on the image or is
        NaN anyway; an empty dictionary if the model rejects NaN.
    """
    longest: dict[str, int] = {}
    with suppress(InvalidValueError):
        for axis in range(1, len(input_size)):
            for name, (first, last) in _extents(model, input_size, axis).items():
                longest[name] = max(longest.get(name, 0), int((last - first).max()) + 1)
        return {name: side for name, side in longest.items() if side > 0}
    return {}


def receptive_area(
    model: nn.Module,
    layer: str,
    position: tuple[int, int] | None = None,
    input_size: tuple[int, int, int] = (3, 32, 32),
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the area of an image that one position of a layer can depend on.

    Args:
        model: any module that takes one batch of images.
        layer: name of the layer in `model.named_modules()`.
        position: row and column in the layer's maps; None selects the centre.
        input_size: shape of one image, (channels, height, width).

    Returns:
        (first row, last row + 1), (first column, last column + 1).

    Raises:
        InvalidTypeError: the model is not a module, or it is scripted or lazy.
        InvalidValueError: the model raised an error, no such layer ran, it does not return maps
            (N,C,H,W), or the position is outside the maps or does not depend on the image.

    Example:
        >>> receptive_area(nn.Conv2d(3, 8, 5, padding=2), "", (0, 10))
        ((0, 3), (8, 13))
    """
    check_model(model)
    input_size = validate("input_size", input_size, tuple[PositiveInt, PositiveInt, PositiveInt])
    position = validate("position", position, tuple[NonNegativeInt, NonNegativeInt] | None)
    shapes = forward(model, zero_images(model, input_size), lambda _, output: output.shape)
    if layer not in shapes:
        raise InvalidValueError(
            f"layer is {layer!r}: expected one that ran{suggest(layer, shapes)}"
        )
    area = []
    for axis in (1, 2):
        first, last = _extents(model, input_size, axis, layer).get(layer, (torch.empty(0),) * 2)
        if first.ndim == 4:
            row, column = position or (first.shape[2] // 2, first.shape[3] // 2)
            if row < first.shape[2] and column < first.shape[3]:
                start, end = first[0, :, row, column].min(), last[0, :, row, column].max()
                area.append((int(start), int(end) + 1))
    if len(area) < 2 or area[0][0] >= area[0][1]:
        raise InvalidValueError(
            f"layer {layer!r} has no position {position or 'at its centre'} that depends on the "
            "image: expected maps (N,C,H,W) and a (row, column) inside them"
        )
    return area[0], area[1]


def _extents(
    model: nn.Module, size: tuple[int, ...], axis: int, layer: str | None = None
) -> Extents:
    """Return the first and the last index along an axis of the image that reach each output.

    Fast probes are used if they agree with plain ones about the first, middle and last index.

    Args:
        model: any module that takes one batch of images.
        size: shape of one image.
        axis: axis of the image.
        layer: the only module to observe; None observes all.

    Returns:
        For each module that is reached, two tensors of the shape of its output for one image.

    Raises:
        InvalidValueError: the model does not accept such images, or NaN in them.
    """
    like = zero_images(model, size)
    if like.dtype == torch.bfloat16:  # oneDNN's convolutions spread a NaN to the next column
        return _extents(copy.deepcopy(model).float(), size, axis, layer)
    image = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
    image = image.to(like.dtype) if like.is_meta else image.to(like)
    baseline = _reached(model, image, layer)
    always_nan = {name for name, nan in baseline.items() if nan is not None and nan.any()}
    chosen = sorted({0, size[axis] // 2, size[axis] - 1})
    expected = [_reached(model, _with_nan(image, axis, [i]), layer) for i in chosen]
    # Thin images are faster, if the network accepts them.
    thin = image[(..., *(slice(None if k == axis else _THIN) for k in range(1, len(size))))]
    for candidate in (thin, image) if layer is None else (image,):
        with suppress(InvalidValueError):
            probe = _reached(model, _with_nan(candidate, axis, chosen), layer, fast=True)
            if _agree(probe, expected, len(size) - 1):
                found = _scan(model, candidate, axis, layer, fast=True)
                break
    else:
        found = _scan(model, image, axis, layer, fast=False)
    return {name: extent for name, extent in found.items() if name not in always_nan}


def _scan(model: nn.Module, image: Tensor, axis: int, layer: str | None, *, fast: bool) -> Extents:
    found: Extents = {}
    n = image.shape[axis + 1]
    at_once = max(1, _PIXELS_AT_ONCE // image[0, 0].numel()) if fast else 1
    for indices in torch.split(torch.arange(n, dtype=torch.int16), at_once):
        images = _with_nan(image, axis, indices.tolist())
        for name, nan in _reached(model, images, layer, fast=fast).items():
            if nan is not None:
                index = indices.to(nan.device).view(-1, *[1] * (nan.ndim - 1))
                first, last = (
                    torch.where(nan, index, n).amin(0),
                    torch.where(nan, index, -1).amax(0),
                )
                if name in found:
                    first, last = first.minimum(found[name][0]), last.maximum(found[name][1])
                found[name] = first, last
    return found


def _with_nan(image: Tensor, axis: int, indices: Sequence[int]) -> Tensor:
    """Return a copy of an image for each index, with NaN at that index along an axis."""
    images = image.repeat(len(indices), *[1] * (image.ndim - 1))
    images.movedim(axis + 1, 1)[range(len(indices)), indices] = math.nan
    return images


def _reached(
    model: nn.Module, images: Tensor, layer: str | None = None, *, fast: bool = False
) -> Reached:
    """Return where the outputs of each module are NaN.

    Returns:
        For each module, bool (images, *shape of the output for one image); None for a module that
        is not observed, or whose output has neither NaN nor a batch dimension.

    Raises:
        InvalidValueError: the model does not accept such images, or an output with NaN does not
            have the batch dimension first.
    """

    def look(name: str, output: Tensor) -> Tensor | None:
        nan = output.isnan() if output.ndim else output.isnan()[None]
        if layer not in (None, name) or (len(nan) % len(images) and not nan.any()):
            return None
        return nan.reshape(len(images), -1, *nan.shape[1:])

    # Winograd convolutions in cuDNN and NNPACK spread a NaN over a whole tile of outputs.
    with cudnn.flags(enabled=False), nnpack.flags(enabled=False), _NanReach(fast=fast):
        return forward(model, images, look)


def _agree(probe: Reached, expected: Sequence[Reached], n_axes: int) -> bool:
    """Return whether each NaN reaches the same outputs, apart from the width of thin images."""
    for i, reached in enumerate(expected):
        for name, nan in reached.items():
            found = probe.get(name)
            if nan is None or found is None:
                if nan is not None and nan.any():
                    return False
                continue
            a, b = found[i], nan[0]
            widths = [k for k in range(min(a.ndim, b.ndim)) if a.shape[k] != b.shape[k]]
            if widths and len(widths) < n_axes == a.ndim - 2 == b.ndim - 2:
                a, b = a.any(tuple(widths)), b.any(tuple(widths))  # maps of thin images
            if not torch.equal(a, b):
                return False
    return True


class _NanReach(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Let models check the range of NaN pixels; optionally replace convolutions by cheaper ones."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fast = fast

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default and self.fast:
            images, weight, bias, *geometry, groups = args
            # Kernels computed from the image may be NaN.
            if not any(each is not None and each.sum().isnan() for each in (weight, bias)):
                # A NaN in a channel reaches all output channels of its group, as 0 * NaN is NaN.
                transposed = geometry[3]
                channels = weight.shape[1] if transposed else weight.shape[0] // groups
                summed = images.unflatten(1, (groups, -1)).sum(2)
                kernel = summed.new_zeros(groups, 1, *weight.shape[2:])
                return func(summed, kernel, None, *geometry, groups).repeat_interleave(channels, 1)
        if func.name() == "torchvision::deform_conv2d":
            # It would compute addresses from offsets that are NaN, and crash.
            images, weight, offsets, *rest = args
            output = func(images, weight, offsets.nan_to_num(), *rest)
            return output.masked_fill(offsets.isnan().any(1, keepdim=True), math.nan)
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default and result != result:
            return 0.0  # for tensor.item(), with which models check the range of pixels
        return result
