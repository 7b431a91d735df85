"""Dropout for CPUs that draws one 64-bit random number for every four elements.

torch draws a number for each element on a single core; for wide maps this takes as long as the
preceding convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from typing_extensions import override

__all__ = ["dropout", "is_transformed", "supports"]

_VALUES = 2**16  # 16 bits per element, so p is accurate to 1 in 131,072
_PER_NUMBER = 4


def supports(layer: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether `dropout` can compute a layer; float32 keeps torch's random numbers."""
    if type(layer) is not nn.Dropout or layer.inplace or dtype != torch.bfloat16:
        return False
    return 0 < round(layer.p * _VALUES) < _VALUES


def dropout(layer: nn.Dropout, maps: Tensor) -> Tensor:
    """Apply the layer, with other numbers from torch's global generator."""
    is_plain = maps.is_floating_point() and _is_dense(maps) and not is_transformed()
    if not (layer.training and is_plain):
        return nn.Dropout.forward(layer, maps)
    apply: Callable[[Tensor, float], Tensor] = _Function.apply
    return apply(maps, layer.p)


def is_transformed() -> bool:
    """Return whether `torch.func` or forward-mode differentiation is active."""
    in_func = torch._C._functorch.peek_interpreter_stack() is not None
    return in_func or forward_ad._current_level >= 0


def _is_dense(maps: Tensor) -> bool:
    channels_last = maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return maps.device.type == "cpu" and (channels_last or maps.is_contiguous())


def _draw_kept(maps: Tensor, p: float) -> Tensor:
    """Draw which elements are kept: bool, with the shape and strides of `maps`."""
    count = maps.numel()
    numbers = torch.empty(-(-count // _PER_NUMBER), dtype=torch.int64).random_(-(2**63), None)
    kept = torch.empty_like(maps, dtype=torch.bool)
    least = round(p * _VALUES) - _VALUES // 2  # the bits are read as -32,768 to 32,767
    torch.ge(numbers.view(torch.int16)[:count], least, out=kept.as_strided((count,), (1,)))
    return kept


class _Function(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, maps: Tensor, p: float) -> Tensor:
        kept = _draw_kept(maps, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (maps * kept).mul_(ctx.scale)

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return grads[0] * kept * ctx.scale, None
