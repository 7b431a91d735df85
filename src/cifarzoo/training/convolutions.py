"""A convolution whose forward and backward pass touch memory less, with the same result.

On a CPU the time of a training step goes into moving maps through memory as much as into
multiplying. So a ReLU is applied while the convolution's result is still in the registers, where
oneDNN does that, and small maps are packed into rows.

Packed rows: a tile of AMX takes 16 pixels of a row at a time, or 32 for the weight gradient, where
they are the inner dimension of oneDNN's matrix products. Maps 7 pixels wide use a fifth of that.
Laid side by side, with zeros between them, four maps make one row of 32: the same sums, faster. For
the weight gradient that pays up to 8 pixels, for the rest, where the result is unpacked again, up
to 4.

Depthwise with strides: for its gradients in bfloat16 oneDNN has its reference code alone, a loop
without vectors. In float32 it has better, and the way there and back costs less than it saves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from cifarzoo.hardware import cpu_has_amx

__all__ = ["ActivationName", "Convolution", "can_fuse_relu"]

ActivationName: TypeAlias = Literal["none", "relu", "relu_gated_later"]

ROW = 32  # pixels of a packed row: the depth of one tile; twice as many are slower
WIDEST = 8  # of the maps packed for the weight gradient; from 15 on the tiles are full enough
WIDEST_FORWARD = 4  # of the maps packed for everything
CAST = (torch.float32, torch.bfloat16, torch.float16)  # what autocast casts; float64 it does not
FEWEST_CHANNELS = 64  # below that, packing costs more than it saves


def can_fuse_relu(dtype: torch.dtype) -> bool:
    """Tell whether this torch, on this CPU, applies a ReLU within a convolution in `dtype`."""
    return bool(getattr(torch.backends.mkldnn, "enabled", True)) and _fuses_relu(dtype)


@functools.cache
def _fuses_relu(dtype: torch.dtype) -> bool:
    """Try it: oneDNN refuses bfloat16 on processors without AVX-512."""
    maps = torch.ones(1, 1, 1, 1, dtype=dtype)
    options = _Options(
        padding=[0, 0], stride=[1, 1], dilation=[1, 1], groups=1, activation="relu", per_row=1
    )
    try:
        _with_relu(maps, maps, None, options)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Convolution:
    """How one layer's convolution is computed, in training and in evaluation.

    Attributes:
        layer: whose weights are used, as they are at the call.
        activation: what follows it: "none", "relu", or "relu_gated_later" for a ReLU whose
            gradient is zeroed by somebody else, after a pooling that has made it smaller.
    """

    layer: nn.Conv2d
    activation: ActivationName

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Tell whether a layer can be computed this way."""
        return (
            type(layer) is nn.Conv2d
            and layer.weight.dtype == torch.float32
            and layer.padding_mode == "zeros"
            and (not isinstance(layer.padding, str) or _is_odd(layer) or layer.padding == "valid")
        )

    def takes(self, maps: Tensor) -> bool:
        """Tell whether maps are a batch, of a type that the layer itself would take."""
        known = CAST if torch.is_autocast_enabled("cpu") else (self.layer.weight.dtype,)
        fuses = self.activation == "none" or can_fuse_relu(_dtype_for(maps))
        return maps.ndim == 4 and maps.dtype in known and fuses

    def packs(self, dtype: torch.dtype) -> bool:
        """Tell whether the weight gradient of small maps is computed from packed rows."""
        layer = self.layer
        side = layer.kernel_size[0]
        return (
            dtype == torch.bfloat16
            and cpu_has_amx()
            and side > 1
            and layer.kernel_size == (side, side)
            and _is_odd(layer)
            and _padding(layer) == [side // 2, side // 2]
            and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
            and min(layer.in_channels, layer.out_channels) >= FEWEST_CHANNELS
        )

    def widens(self, dtype: torch.dtype) -> bool:
        """Tell whether the gradients are computed in float32, whatever they come in."""
        layer = self.layer
        depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
        return dtype == torch.bfloat16 and depthwise and max(layer.stride) > 1

    def __call__(self, maps: Tensor) -> Tensor:
        """Give what the layer, and the ReLU after it, would give for maps (N,C,H,W)."""
        layer = self.layer
        if not self.takes(maps):
            return nn.Conv2d.forward(layer, maps)
        dtype = _dtype_for(maps)
        weight, bias = layer.weight.to(dtype), layer.bias
        options = _Options(
            padding=_padding(layer),
            stride=list(layer.stride),
            dilation=list(layer.dilation),
            groups=layer.groups,
            activation=self.activation,
            per_row=_maps_per_row(maps, layer.kernel_size[0] // 2) if self.packs(dtype) else 1,
            widens=self.widens(dtype),
        )
        apply: Callable[..., Tensor] = _Function.apply
        return apply(maps.to(dtype), weight, None if bias is None else bias.to(dtype), options)


def _dtype_for(maps: Tensor) -> torch.dtype:
    """Give the type in which torch computes a convolution here and now."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    padding: list[int]
    stride: list[int]
    dilation: list[int]
    groups: int
    activation: ActivationName
    per_row: int
    widens: bool = False


def _is_odd(layer: nn.Conv2d) -> bool:
    return all(side % 2 == 1 for side in layer.kernel_size)


def _padding(layer: nn.Conv2d) -> list[int]:
    if layer.padding == "valid":
        return [0, 0]
    if isinstance(layer.padding, str):
        pairs = zip(layer.kernel_size, layer.dilation, strict=True)
        return [side // 2 * dilation for side, dilation in pairs]
    return list(layer.padding)


def _maps_per_row(maps: Tensor, margin: int) -> int:
    """Give how many maps make up a row: a divisor of the batch; 1 where packing does not pay."""
    if maps.ndim != 4 or maps.shape[3] > WIDEST:
        return 1
    most = ROW // (maps.shape[3] + margin)
    return next((n for n in range(most, 1, -1) if maps.shape[0] % n == 0), 1)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own has no place for attributes
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        options: _Options,
    ) -> Tensor:
        width = maps.shape[-1]
        ctx.unpacked_width = None
        if options.per_row > 1 and width <= WIDEST_FORWARD:
            ctx.unpacked_width = width
            maps = _pack(maps, options)
        if options.activation == "none":
            stride, padding, dilation = options.stride, options.padding, options.dilation
            result = torch.conv2d(maps, weight, bias, stride, padding, dilation, options.groups)
        else:
            result = _with_relu(maps, weight, bias, options)
        if ctx.unpacked_width is not None:
            result = _unpack(result, width, options)
        gates = options.activation == "relu"
        ctx.save_for_backward(maps, weight, result if gates else None)
        ctx.options = options
        return result

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (grad,) = grads
        maps, weight, result = ctx.saved_tensors
        if result is not None:
            grad = torch.ops.aten.threshold_backward(grad, result, 0)
        wanted = list(ctx.needs_input_grad[:3])
        options: _Options = ctx.options
        if ctx.unpacked_width is not None:
            found = _gradients(_pack(grad, options), maps, weight, options, wanted)
            of_maps = None if found[0] is None else _unpack(found[0], ctx.unpacked_width, options)
            return of_maps, *found[1:], None
        if options.per_row == 1 or not wanted[1]:
            return (*_gradients(grad, maps, weight, options, wanted), None)
        rows, of_rows = _pack(maps, options), _pack(grad, options)
        _, of_weight, of_bias = _gradients(of_rows, rows, weight, options, [False, True, wanted[2]])
        of_maps = None
        if wanted[0]:
            of_maps, *_ = _gradients(grad, maps, weight, options, [True, False, False])
        return of_maps, of_weight, of_bias, None


def _with_relu(maps: Tensor, weight: Tensor, bias: Tensor | None, options: _Options) -> Tensor:
    shape = (options.padding, options.stride, options.dilation, options.groups)
    fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
    return fused(maps, weight, bias, *shape, "relu", [], "")


def _gradients(
    grad: Tensor, maps: Tensor, weight: Tensor, options: _Options, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Give the gradients of maps, weight and bias, as far as they are wanted."""
    if options.widens:
        dtype = maps.dtype
        grad, maps, weight = grad.float(), maps.float(), weight.float()
        wide = _gradients(grad, maps, weight, replace(options, widens=False), wanted)
        of_maps, of_weight, of_bias = (None if g is None else g.to(dtype) for g in wide)
        return of_maps, of_weight, of_bias
    found: tuple[Tensor | None, Tensor | None, Tensor | None]
    found = torch.ops.aten.convolution_backward(
        grad,
        maps,
        weight,
        [weight.shape[0]],
        options.stride,
        options.padding,
        options.dilation,
        False,
        [0, 0],
        options.groups,
        wanted,
    )
    return found


def _pack(maps: Tensor, options: _Options) -> Tensor:
    """Lay maps (N,C,H,W) side by side: (N/per_row,C,H,per_row*(W+margin)), zeros between them."""
    n, channels, height, width = maps.shape
    per_row, margin = options.per_row, options.padding[0]
    rows = maps.new_zeros(n // per_row, height, per_row, width + margin, channels)
    each = maps.permute(0, 2, 3, 1).reshape(n // per_row, per_row, height, width, channels)
    rows[:, :, :, :width] = each.transpose(1, 2)
    return rows.flatten(2, 3).permute(0, 3, 1, 2)


def _unpack(rows: Tensor, width: int, options: _Options) -> Tensor:
    """Undo `_pack`, whatever lies between the maps; no view, so it may be changed in place."""
    n, channels, height, _ = rows.shape
    per_row = options.per_row
    shape = (n * per_row, channels, height, width)
    maps = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
    each = rows.permute(0, 2, 3, 1).reshape(n, height, per_row, -1, channels)
    target = maps.permute(0, 2, 3, 1).view(n, per_row, height, width, channels)
    target.copy_(each[:, :, :, :width].transpose(1, 2))
    return maps
