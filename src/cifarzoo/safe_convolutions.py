"""Convolutions that oneDNN computes wrongly on CPUs.

In bfloat16, oneDNN 3.12 (torch 2.14) returns wrong outputs, wrong weight gradients or corrupts
memory for dilated convolutions, for strides above 2, and for strided convolutions of small maps. In
channels_last layout, a strided 1×1 convolution with 8 to 15 channels reads and writes out of bounds
(oneDNN issue 6035). `benchmarks/convolutions.py` compares thousands of shapes with float32.
Transposed, one- and three-dimensional convolutions were not examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

__all__ = ["SafeConvolutions", "is_safe"]

_aten = torch.ops.aten
_CONV2D = {torch.conv2d, _aten.conv2d.default, _aten.conv2d.padding}
_OTHERS = {
    *(torch.conv1d, torch.conv3d, torch.convolution),
    *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    *(_aten.convolution.default, _aten.conv1d.default, _aten.conv1d.padding),
    *(_aten.conv3d.default, _aten.conv3d.padding, _aten.conv_transpose1d.default),
    *(_aten.conv_transpose2d.input, _aten.conv_transpose3d.input),
}
_CONVOLUTIONS = _CONV2D | _OTHERS
_BLOCK = 16  # channels that oneDNN processes together


def is_safe(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> bool:
    """Return whether oneDNN is known to compute `torch.conv2d(...)` correctly."""
    steps, spacing = _pair(stride), _pair(dilation)
    if maps.ndim != 4 or max(steps) > 2 or max(spacing) > 1:
        return False
    if max(steps) == 1:
        return True
    margins = (0, 0) if isinstance(padding, str) else _pair(padding)
    sides, kernel = maps.shape[2:], weight.shape[2:]
    # The output is two or more pixels wide, and every window covers pixels of the map.
    is_wide = all(
        n >= k and k >= 2 * p and n + 2 * p - k >= 2
        for n, p, k in zip(sides, margins, kernel, strict=True)
    )
    return is_wide and (max(kernel) > 1 or weight.shape[1] % _BLOCK == 0)


def _pair(value: int | Sequence[int]) -> Sequence[int]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * 2 if len(values) == 1 else values


class SafeConvolutions(TorchFunctionMode):
    """Compute every convolution that is not known to be right in float32 and contiguous layout.

    Attributes:
        has_replaced: whether there was such a convolution.
    """

    has_replaced = False

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _CONVOLUTIONS:
            return func(*args, **kwargs)
        if not args:
            args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
        if func in _CONV2D and is_safe(*args, **kwargs):
            return func(*args, **kwargs)
        self.has_replaced = True
        dtype = args[0].dtype
        if torch.is_autocast_enabled("cpu") and dtype == torch.float32:
            dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            result = func(*map(_widen, args), **{k: _widen(v) for k, v in kwargs.items()})
        return result.to(dtype)


def _widen(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, Tensor):
        return value
    wide = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    return wide.clone(memory_format=torch.contiguous_format)  # `contiguous` keeps 1×1 filters
