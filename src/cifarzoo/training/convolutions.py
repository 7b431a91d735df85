"""The weight gradient of a convolution over small maps, where matrix units would run half empty.

oneDNN computes it with the pixels of a row as the inner dimension of its matrix products. A tile
of AMX takes 32 of them, so maps 7 pixels wide use a fifth of it. Laid side by side, with zeros
between them, eight maps make one row of 64: the same sum, in a third of the time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cifarzoo.hardware import cpu_has_amx

__all__ = ["packed_convolutions"]

ROW = 64  # pixels of a packed row: two tiles, more is no faster
WIDEST = 8  # of the maps; from 15 pixels on the tiles are full enough
FEWEST_CHANNELS = 64  # below that, packing costs more than it saves


@contextlib.contextmanager
def packed_convolutions(
    model: nn.Module, device: torch.device, dtype: torch.dtype
) -> Iterator[None]:
    """Let a model's convolutions compute their weight gradients from packed rows, in the block.

    The result is the same but for the order in which products are added up. Where it would be no
    faster (another device or type, a stride, groups, few channels) nothing is changed.
    """
    packed: list[nn.Conv2d] = []
    if device.type == "cpu" and dtype == torch.bfloat16 and cpu_has_amx():
        packed = [layer for layer in model.modules() if type(layer) is nn.Conv2d and _fits(layer)]
    for layer in packed:
        layer.forward = functools.partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in packed:
            del layer.forward


def _fits(layer: nn.Conv2d) -> bool:
    side = layer.kernel_size[0]
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    return (
        side > 1
        and side % 2 == 1
        and layer.kernel_size == (side, side)
        and padding in ("same", (side // 2, side // 2))
        and layer.padding_mode == "zeros"
        and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
        and min(layer.in_channels, layer.out_channels) >= FEWEST_CHANNELS
        and "forward" not in vars(layer)
    )


def _forward(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    per_row = _maps_per_row(maps, layer.kernel_size[0] // 2)
    if per_row < 2 or not torch.is_grad_enabled() or not layer.weight.requires_grad:
        return nn.Conv2d.forward(layer, maps)
    low = torch.bfloat16  # what autocast would cast to
    bias = None if layer.bias is None else layer.bias.to(low)
    apply: Callable[..., Tensor] = _PackedConvolution.apply
    return apply(maps.to(low), layer.weight.to(low), bias, per_row)


def _maps_per_row(maps: Tensor, margin: int) -> int:
    """Give how many maps make up a row: a divisor of the batch; 1 where packing does not pay."""
    if maps.ndim != 4 or maps.shape[3] > WIDEST:
        return 1
    most = ROW // (maps.shape[3] + margin)
    return next((n for n in range(most, 1, -1) if maps.shape[0] % n == 0), 1)


class _PackedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own has no place for attributes
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        per_row: int,
    ) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.per_row = per_row
        return torch.conv2d(maps, weight, bias, padding=weight.shape[2] // 2)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (grad,) = grads
        maps, weight = ctx.saved_tensors
        needs_maps, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_maps = of_weight = of_bias = None
        if needs_maps:
            of_maps = _gradient("maps", grad, maps, weight)
        if needs_weight:
            margin = weight.shape[2] // 2
            rows, of_rows = (_pack(each, ctx.per_row, margin) for each in (maps, grad))
            of_weight = _gradient("weight", of_rows, rows, weight)
        if needs_bias:
            of_bias = grad.sum((0, 2, 3), dtype=torch.float32).to(grad.dtype)
        return of_maps, of_weight, of_bias, None


def _gradient(of: Literal["maps", "weight"], grad: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    padding, one, zero = [weight.shape[2] // 2] * 2, [1, 1], [0, 0]
    wanted = [of == "maps", of == "weight", False]
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, maps, weight, None, one, padding, one, False, zero, 1, wanted
    )
    return found[0] if of == "maps" else found[1]


def _pack(maps: Tensor, per_row: int, margin: int) -> Tensor:
    """Lay maps (N,C,H,W) side by side: (N/per_row,C,H,per_row*(W+margin)), zeros between them."""
    n, channels, height, width = maps.shape
    rows = maps.new_zeros(n // per_row, height, per_row, width + margin, channels)
    each = maps.permute(0, 2, 3, 1).reshape(n // per_row, per_row, height, width, channels)
    rows[:, :, :, :width] = each.transpose(1, 2)
    return rows.flatten(2, 3).permute(0, 3, 1, 2)
