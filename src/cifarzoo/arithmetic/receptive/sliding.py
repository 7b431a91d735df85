"""Operators that slide a window over the image: convolution, pooling, resizing, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from cifarzoo.arithmetic.receptive.calls import Call, Fields, Rule, of_source
from cifarzoo.arithmetic.receptive.fields import Field

__all__ = ["RULES"]

HALF = Fraction(1, 2)


def _convolve(call: Call) -> Fields:
    field, kernel = call.field("input"), call.sizes("weight")[2:]
    if field is None:  # a kernel that depends on the images
        return []
    field = field.contract(1).scatter(1, call.shape[1])
    names = ("stride", "padding", "dilation")
    settings = [_each(call.integers(name), len(kernel)) for name in names]
    for dim, (k, s, p, d) in enumerate(zip(kernel, *settings, strict=True), 2):
        reach = (k - 1) * d
        if call.integer("transposed"):
            # position i sees the whole numbers from (i + p - reach) / s to (i + p) / s
            first, stride = Fraction(p - reach, s) + _mean_rounding(s), Fraction(1, s)
            reach //= s
        else:
            first, stride = Fraction(-p), Fraction(s)
        field = field.taps(dim, call.shape[dim], first=first, stride=stride, span=reach + 1)
    return [field]


def _pool(field: Field, call: Call) -> Field:
    kernel = call.integers("kernel_size")
    sides = len(kernel)
    stride = call.integers("stride") or kernel
    dilation = call.integers("dilation") if "dilation" in call.arguments else [1]
    settings = (_each(values, sides) for values in (stride, call.integers("padding"), dilation))
    for dim, (k, s, p, d) in enumerate(
        zip(kernel, *settings, strict=True), len(field.dims) - sides
    ):
        span = (k - 1) * d + 1
        field = field.taps(dim, call.shape[dim], first=-p, stride=s, span=span)
    return field


def _pool_adaptively(field: Field, call: Call) -> Field:
    rank = len(field.dims)
    for dim in range(rank - len(call.integers("output_size")), rank):
        n, m = field.shape[dim], call.shape[dim]
        span = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        field = field.taps(dim, m, first=0, stride=Fraction(n, m), span=span)
    return field


def _resize(radius: Fraction | int, *, antialias: bool = False) -> Rule:
    """Make the rule for a resize whose filter reaches `radius` positions to each side."""

    def rule(field: Field, call: Call) -> Field:
        corners = bool(call.arguments.get("align_corners"))
        for dim in range(2, len(call.shape)):
            n, m = field.shape[dim], call.shape[dim]
            fixed = corners and m > 1  # first and last centres meet; else the borders do
            stride = Fraction(n - 1, m - 1) if fixed else Fraction(n, m)
            reach = radius * max(Fraction(1), stride) if antialias else Fraction(radius)
            centre = HALF if fixed else stride / 2
            span = max(_inside(centre + i * stride, reach) for i in range(m))
            first = centre - Fraction(span, 2)
            field = field.taps(dim, m, first=first, stride=stride, span=span)
        return field

    return of_source(rule)


def _inside(centre: Fraction, reach: Fraction) -> int:
    """Count the positions whose middles lie within the reach; a filter is zero at its ends."""
    left, right = centre - reach - HALF, centre + reach - HALF
    return max(1, math.ceil(right) - math.floor(left) - 1)


def _resize_to_nearest(field: Field, call: Call) -> Field:
    for dim in range(2, len(call.shape)):
        field = _repeat(field, dim, call.shape[dim])
    return field


def _repeat(field: Field, dim: int, extent: int) -> Field:
    """Let position i see the position floor(i n / extent)."""
    stride = Fraction(field.shape[dim], extent)
    first = -_mean_rounding(stride.denominator)
    return field.taps(dim, extent, first=first, stride=stride, span=1)


def _mean_rounding(parts: int) -> Fraction:
    """Give how far a multiple of 1 / parts is moved by rounding it down, on average."""
    return Fraction(parts - 1, 2 * parts)


def _shuffle_pixels(field: Field, call: Call) -> Field:
    """Channels to places."""
    rank = len(field.dims)
    field = field.contract(rank - 3).scatter(rank - 3, call.shape[-3])
    for dim in (rank - 2, rank - 1):
        field = _repeat(field, dim, call.shape[dim])
    return field


def _unshuffle_pixels(field: Field, call: Call) -> Field:
    """Places to channels."""
    rank, factor = len(field.dims), call.integer("downscale_factor")
    field = field.contract(rank - 3).scatter(rank - 3, call.shape[-3])
    for dim in (rank - 2, rank - 1):
        field = field.taps(dim, call.shape[dim], first=0, stride=factor, span=factor)
    return field


def _pad(field: Field, call: Call) -> Field:
    amounts = call.integers("pad" if "pad" in call.arguments else "padding")
    for back, left in enumerate(amounts[::2], 1):  # pairs, the last dimension first
        dim = len(field.dims) - back
        field = field.narrow(dim, -left, call.shape[dim])
    return field


def _each(values: Sequence[int], sides: int) -> Sequence[int]:
    return values if len(values) == sides else [values[0]] * sides


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


RULES: dict[str, Rule] = {
    **_named(_convolve, "convolution", "_convolution", "cudnn_convolution"),
    **_named(_convolve, "convolution_overrideable"),
    **_named(of_source(_pool), "max_pool2d_with_indices", "max_pool3d_with_indices"),
    **_named(of_source(_pool), "avg_pool2d", "avg_pool3d"),
    **_named(of_source(_pool_adaptively), "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    **_named(of_source(_pool_adaptively), "adaptive_max_pool2d", "adaptive_max_pool3d"),
    **_named(of_source(_resize_to_nearest), "upsample_nearest1d", "upsample_nearest2d"),
    **_named(of_source(_resize_to_nearest), "upsample_nearest3d"),
    **_named(_resize(HALF), "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
    **_named(_resize(1), "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    **_named(_resize(2), "upsample_bicubic2d"),
    **_named(_resize(1, antialias=True), "_upsample_bilinear2d_aa"),
    **_named(_resize(2, antialias=True), "_upsample_bicubic2d_aa"),
    **_named(of_source(_shuffle_pixels), "pixel_shuffle"),
    **_named(of_source(_unshuffle_pixels), "pixel_unshuffle"),
    **_named(of_source(_pad), "constant_pad_nd"),
    **_named(of_source(_pad), "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    **_named(of_source(_pad), "replication_pad1d", "replication_pad2d", "replication_pad3d"),
}
