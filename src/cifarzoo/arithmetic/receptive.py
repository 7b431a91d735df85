"""Receptive fields, measured: a NaN in an image reaches all outputs that depend on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def receptive_fields(
    model: nn.Module, input_size: tuple[int, ...], output_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int | None]:
    """Return the longest side of each module's receptive field, in pixels of the input.

    Args:
        model: any module that takes one batch of images.
        input_size: shape of one image.
        output_shapes: output shape for one image of each module that runs, by name.

    Returns:
        The sides by module name, None for an output that does not depend on the image; an empty
        dictionary if the model rejects NaN.
    """
    longest = dict.fromkeys(output_shapes, 0)
    for axis in range(1, len(input_size)):
        expected = {
            name: _line(torch.empty(1, *shape, device="meta"), axis, len(input_size)).shape[1:]
            for name, shape in output_shapes.items()
        }
        # Thin images are faster, if the network accepts them.
        thin = tuple(n if k in (0, axis) else min(n, _THIN) for k, n in enumerate(input_size))
        for size in (thin, input_size):
            try:
                reached = _reached(model, size, axis)
            except InvalidValueError:
                continue
            if all(part.shape[1:] == expected[name] for name, part in reached.items()):
                break
        else:
            return {}
        for name, part in reached.items():
            longest[name] = max(longest[name], _longest(part))
    return {name: side or None for name, side in longest.items()}


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
        InvalidValueError: no such layer ran, it does not return maps (N,C,H,W), or the position is
            outside the maps or does not depend on the image.

    Example:
        >>> receptive_area(nn.Conv2d(3, 8, 5, padding=2), "", (0, 10))
        ((0, 3), (8, 13))
    """
    check_model(model)
    input_size = validate("input_size", input_size, tuple[PositiveInt, PositiveInt, PositiveInt])
    position = validate("position", position, tuple[NonNegativeInt, NonNegativeInt] | None)
    sides = []
    for axis in (1, 2):
        reached = _reached(model, input_size, axis, position)
        if layer not in reached:
            raise InvalidValueError(
                f"layer is {layer!r}: expected one that ran{suggest(layer, reached)}"
            )
        maps = reached[layer]
        index = maps.shape[-1] // 2 if position is None else position[axis - 1]
        if maps.ndim != 3 or index >= maps.shape[2] or not maps[:, :, index].any():
            raise InvalidValueError(
                f"layer {layer!r} has no position {position} that depends on the image: expected "
                "maps (N,C,H,W) and a (row, column) inside them"
            )
        indices = maps[:, :, index].any(1).nonzero()
        sides.append((int(indices[0]), int(indices[-1]) + 1))
    return sides[0], sides[1]


def _reached(
    model: nn.Module, size: tuple[int, ...], axis: int, position: tuple[int, ...] | None = None
) -> dict[str, Tensor]:
    """Return which output elements a NaN at each index along an axis of the image reaches.

    Returns:
        For each module, bool (index, ...) over the `_line` of its output along the axis.

    Raises:
        InvalidValueError: the model does not accept such images.
    """
    parts: dict[str, list[Tensor]] = {}
    at_once = max(1, _PIXELS_AT_ONCE // math.prod(size[1:]))
    for indices in torch.split(torch.arange(size[axis]), at_once):
        images = zero_images(model, size, len(indices))
        images = torch.zeros_like(images, device="cpu" if images.is_meta else None)
        images.movedim(axis + 1, 1)[range(len(indices)), indices] = torch.nan
        # Winograd convolutions in cuDNN and NNPACK spread a NaN over a whole tile of outputs.
        probe = _NanReach()  # type: ignore[no-untyped-call]
        with cudnn.flags(enabled=False), nnpack.flags(enabled=False), probe:
            outputs = forward(
                model, images, lambda output: _line(output, axis, len(size), position).isnan().cpu()
            )
        for name, output in outputs.items():
            if output is not None and output.shape[:1] == indices.shape:
                parts.setdefault(name, []).append(output)
    return {name: torch.cat(each) for name, each in parts.items()}


def _line(output: Tensor, axis: int, ndim: int, position: tuple[int, ...] | None = None) -> Tensor:
    """Return the line of an output along an axis, through a position or the centre.

    An output that does not have the axes of the image is returned unchanged.
    """
    if output.ndim == ndim + 1:
        for other in reversed(range(1, ndim)):
            if other != axis:
                side = output.shape[other + 1]
                index = side // 2 if position is None else min(position[other - 1], side - 1)
                output = output.select(other + 1, index)
    return output


def _longest(reached: Tensor) -> int:
    """Return the largest extent of the indices that reach one element, both ends included."""
    n = len(reached)
    numbers = torch.arange(1, n + 1, dtype=torch.int16)[:, None]
    last = (reached.flatten(1) * numbers).amax(0)
    first = n + 1 - (reached.flatten(1) * numbers.flip(0)).amax(0)
    return max(0, int((last - first + 1).max()))


class _NanReach(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Replace convolutions by cheaper ones that propagate NaN in the same way."""

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            # A NaN in a channel reaches all output channels of its group, as 0 * NaN is NaN.
            images, weight, _, *geometry, groups = args
            transposed = geometry[3]
            channels = weight.shape[1] if transposed else weight.shape[0] // groups
            summed = images.unflatten(1, (groups, -1)).sum(2)
            kernel = summed.new_zeros(groups, 1, *weight.shape[2:])
            return func(summed, kernel, None, *geometry, groups).repeat_interleave(channels, 1)
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._local_scalar_dense.default and result != result:
            return 0.0  # for tensor.item(), with which models check the range of pixels
        return result
