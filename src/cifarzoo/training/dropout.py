"""Dropout on a CPU, drawn four numbers at a time.

torch draws a random number for every element, one after the other on one core: for wide maps that
takes as long as the convolution before. Here one number of 64 bits decides on four elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

_VALUES = 2**16  # of the 16 bits that decide on an element: p is met to within 1 in 131,072
_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Dropout:
    """How one layer's dropout is computed.

    Attributes:
        layer: whose probability and mode are used, as they are at the call.
    """

    layer: nn.Dropout

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Tell whether a layer can be computed this way."""
        return (
            type(layer) is nn.Dropout
            and not layer.inplace
            and 0 < round(layer.p * _VALUES) < _VALUES
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """Give what the layer would give, of other random numbers of torch's global generator."""
        if not self.layer.training or not _is_dense(maps) or not maps.is_floating_point():
            return nn.Dropout.forward(self.layer, maps)
        apply: Callable[[Tensor, float], Tensor] = _Function.apply
        return apply(maps, self.layer.p)


def _is_dense(maps: Tensor) -> bool:
    """Tell whether the elements lie in memory without gaps."""
    last = maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return maps.device.type == "cpu" and (last or maps.is_contiguous())


def _kept(maps: Tensor, p: float) -> Tensor:
    """Draw which elements are kept: bool, of the shape and the order in memory of `maps`."""
    count = maps.numel()
    numbers = torch.empty(-(-count // _PER_NUMBER), dtype=torch.int64).random_(-(2**63), None)
    kept = torch.empty_like(maps, dtype=torch.bool)
    least = round(p * _VALUES) - _VALUES // 2  # the bits are read as -32,768 to 32,767
    torch.ge(numbers.view(torch.int16)[:count], least, out=kept.as_strided((count,), (1,)))
    return kept


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, p: float) -> Tensor:  # noqa: ANN401
        kept = _kept(maps, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (maps * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (kept,) = ctx.saved_tensors
        return grads[0] * kept * ctx.scale, None
