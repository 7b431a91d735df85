"""Convolutions with less memory traffic on CPUs.

A training step on a CPU spends as much time on moving feature maps as on multiplying them:

- oneDNN applies a ReLU while the convolution's result is still in registers.
- AMX multiplies bfloat16 tiles of 16 pixels of a row, 32 for the weight gradient. Rows 7 pixels
  wide use a fifth of that; four of them side by side, with zeros in between, fill a tile. This pays
  off up to 8 pixels for the weight gradient, and up to 4 for the other passes, whose results have
  to be unpacked.
- For bfloat16 gradients of a depthwise convolution with a stride or a kernel above 3×3, oneDNN
  only has a scalar loop. Its vectorized float32 code is faster, casts included.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.device import cpu_has_amx
from cifarzoo.safe_convolutions import is_safe
from cifarzoo.training.kernels.dropout import is_transformed

__all__ = ["Activation", "Convolution", "can_fuse_relu"]

Activation: TypeAlias = Literal["none", "relu", "relu_gated_later"]
_Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None]

_ROW = 32  # pixels in a packed row, the depth of one tile; 64 was measured to be slower
_MAX_WIDTH = 8  # widest maps packed for the weight gradient
_MAX_WIDTH_FORWARD = 4  # widest maps packed for every pass
_MIN_CHANNELS = 64  # with fewer, packing costs more than it saves
_AUTOCAST_INPUTS = (torch.float32, torch.bfloat16, torch.float16)


@functools.cache
def can_fuse_relu(dtype: torch.dtype) -> bool:
    """Return whether oneDNN fuses a ReLU into a convolution in `dtype` on this CPU."""
    one = torch.ones(1, 1, 1, 1, dtype=dtype)
    try:  # oneDNN rejects bfloat16 on processors without AVX-512
        _convolve_relu(one, one, None, [1, 1], [0, 0], [1, 1], 1)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Convolution:
    """A faster forward and backward pass of one layer.

    Attributes:
        layer: the layer; its weights are read at each call.
        activation: "relu" applies a ReLU; "relu_gated_later" applies it too, but leaves its
            gradient to `fuse`, after the pooling that follows.
    """

    layer: nn.Conv2d
    activation: Activation = "none"

    @staticmethod
    def supports(layer: nn.Module) -> bool:
        """Return whether this class can compute a layer."""
        return (
            type(layer) is nn.Conv2d
            and "forward" not in vars(layer)
            and layer.weight.dtype == torch.float32
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )

    def accepts(self, maps: Tensor) -> bool:
        """Return whether maps are a batch of a dtype and shape that this class can compute."""
        autocast = torch.is_autocast_enabled("cpu")
        known = _AUTOCAST_INPUTS if autocast else (torch.float32,)
        fuses = self.activation == "none" or can_fuse_relu(_dtype(maps))
        is_known = maps.ndim == 4 and maps.dtype in known and fuses and not is_transformed()
        return is_known and is_safe(maps, self.layer.weight, None, *self._geometry())

    def packs(self, dtype: torch.dtype) -> bool:
        """Return whether gradients for narrow maps are computed from packed rows."""
        layer, side = self.layer, self.layer.kernel_size[0]
        return (
            dtype == torch.bfloat16
            and cpu_has_amx()
            and side > 1
            and side % 2 == 1
            and layer.kernel_size == (side, side)
            and layer.padding == (side // 2, side // 2)
            and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
            and min(layer.in_channels, layer.out_channels) >= _MIN_CHANNELS
        )

    def widens(self, dtype: torch.dtype) -> bool:
        """Return whether gradients are computed in float32."""
        layer = self.layer
        depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
        is_slow = max(layer.stride) > 1 or max(layer.kernel_size) > 3
        return dtype == torch.bfloat16 and depthwise and is_slow

    def __call__(self, maps: Tensor) -> Tensor:
        """Apply the layer and its ReLU to maps (N,C,H,W)."""
        layer = self.layer
        if not self.accepts(maps):
            return nn.Conv2d.forward(layer, maps)
        dtype = _dtype(maps)
        weight, bias = layer.weight.to(dtype), layer.bias
        apply: Callable[..., Tensor] = _Function.apply
        return apply(maps.to(dtype), weight, None if bias is None else bias.to(dtype), self)

    def maps_per_row(self, maps: Tensor) -> int:
        """Return the number of maps per packed row, a divisor of N; 1 means no packing."""
        n, width, margin = len(maps), maps.shape[3], self.layer.kernel_size[0] // 2
        if width > _MAX_WIDTH or not self.packs(maps.dtype):
            return 1
        return next((k for k in range(_ROW // (width + margin), 1, -1) if n % k == 0), 1)

    def compute(self, maps: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the forward pass."""
        convolve = torch.conv2d if self.activation == "none" else _convolve_relu
        return convolve(maps, weight, bias, *self._geometry())

    def gradients(self, grad: Tensor, maps: Tensor, weight: Tensor, mask: list[bool]) -> _Gradients:
        """Return the gradients of maps, weight and bias that `mask` selects."""
        dtype = maps.dtype
        if self.widens(dtype):
            grad, maps, weight = grad.float(), maps.float(), weight.float()
        stride, padding, dilation, groups = self._geometry()
        options = ([len(weight)], stride, padding, dilation, False, [0, 0], groups, mask)
        found = torch.ops.aten.convolution_backward(grad, maps, weight, *options)
        of_maps, of_weight, of_bias = (None if g is None else g.to(dtype) for g in found)
        return of_maps, of_weight, of_bias

    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        layer = self.layer
        assert not isinstance(layer.padding, str)
        return list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups


def _dtype(maps: Tensor) -> torch.dtype:
    """Return the dtype in which torch computes a convolution of these maps, under autocast."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype


def _convolve_relu(maps: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:  # noqa: ANN401
    stride, padding, dilation, groups = geometry
    fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
    return fused(maps, weight, bias, padding, stride, dilation, groups, "relu", [], "")


class _Function(torch.autograd.Function):
    @staticmethod
    @override
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, conv: Convolution
    ) -> Tensor:
        ctx.conv, ctx.width, ctx.per_row = conv, maps.shape[3], conv.maps_per_row(maps)
        ctx.margin = weight.shape[3] // 2
        ctx.packs_all = ctx.per_row > 1 and ctx.width <= _MAX_WIDTH_FORWARD
        rows = _pack(maps, ctx.per_row, ctx.margin) if ctx.packs_all else None
        result = conv.compute(maps if rows is None else rows, weight, bias)
        if rows is not None:
            result = _unpack(result, ctx.per_row, ctx.width)
        ctx.save_for_backward(maps, weight, result if conv.activation == "relu" else None, rows)
        return result

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (maps, weight, result, rows) = grads, ctx.saved_tensors
        if result is not None:
            grad = torch.ops.aten.threshold_backward(grad, result, 0)
        conv, mask = ctx.conv, list(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled() or ctx.per_row == 1:  # packing has no second derivative
            return *conv.gradients(grad, maps, weight, mask), None
        grad_rows = _pack(grad, ctx.per_row, ctx.margin)
        if rows is not None:
            of_maps, of_weight, of_bias = conv.gradients(grad_rows, rows, weight, mask)
            if of_maps is not None:
                of_maps = _unpack(of_maps, ctx.per_row, ctx.width)
            return of_maps, of_weight, of_bias, None
        of_maps, *_ = conv.gradients(grad, maps, weight, [mask[0], False, False])
        rows = _pack(maps, ctx.per_row, ctx.margin)
        _, of_weight, of_bias = conv.gradients(grad_rows, rows, weight, [False, *mask[1:]])
        return of_maps, of_weight, of_bias, None


def _pack(maps: Tensor, per_row: int, margin: int) -> Tensor:
    """Lay maps (N,C,H,W) side by side, with zeros between: (N/per_row,C,H,per_row*(W+margin))."""
    n, channels, height, width = maps.shape
    rows = maps.new_zeros(n // per_row, height, per_row, width + margin, channels)
    each = maps.permute(0, 2, 3, 1).reshape(n // per_row, per_row, height, width, channels)
    rows[:, :, :, :width] = each.transpose(1, 2)
    return rows.flatten(2, 3).permute(0, 3, 1, 2)


def _unpack(rows: Tensor, per_row: int, width: int) -> Tensor:
    """Undo `_pack`, without returning a view, so that later layers may work in place."""
    n, channels, height, _ = rows.shape
    shape = (n * per_row, channels, height, width)
    maps = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
    each = rows.permute(0, 2, 3, 1).reshape(n, height, per_row, -1, channels)
    target = maps.permute(0, 2, 3, 1).view(n, per_row, height, width, channels)
    target.copy_(each[:, :, :, :width].transpose(1, 2))
    return maps
