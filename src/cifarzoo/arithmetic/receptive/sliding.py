"""Operators that slide a window over the image: convolution, pooling, resizing, padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

from cifarzoo.arithmetic.receptive.calls import Call, Fields, Rule, of_source
from cifarzoo.arithmetic.receptive.fields import Field

__all__ = ["RULES"]

HALF = Fraction(1, 2)
Interval: TypeAlias = Callable[[int], tuple[Fraction, Fraction]]


def _convolve(call: Call) -> Fields:
    field, kernel = call.field("input"), call.sizes("weight")[2:]
    if field is None:  # a kernel that depends on the images
        return []
    field = field.contract(1).scatter(1, call.shape[1])
    slide = _slide_back if call.integer("transposed") else _slide
    names = ("stride", "padding", "dilation")
    settings = [_each(call.integers(name), len(kernel)) for name in names]
    for dim, (k, s, p, d) in enumerate(zip(kernel, *settings, strict=True), 2):
        field = slide(field, dim, call.shape[dim], span=(k - 1) * d, stride=s, padding=p)
    return [field]


def _slide(field: Field, dim: int, extent: int, *, span: int, stride: int, padding: int) -> Field:
    """Let position i see a window of `span` steps; strides apart, the first in the padding."""

    def reach(i: int) -> tuple[int, int]:
        return i * stride - padding, i * stride - padding + span

    return field.taps(dim, extent, reach, rise=stride)


def _slide_back(
    field: Field, dim: int, extent: int, *, span: int, stride: int, padding: int
) -> Field:
    """Let position i see all positions whose windows, in a `_slide` the other way, hold i."""

    def reach(i: int) -> tuple[int, int]:
        return -((span - i - padding) // stride), (i + padding) // stride

    return field.taps(dim, extent, reach, every=stride)


def _pool(field: Field, call: Call) -> Field:
    kernel = call.integers("kernel_size")
    sides = len(kernel)
    stride = call.integers("stride") or kernel
    dilation = call.integers("dilation") if "dilation" in call.arguments else [1]
    settings = (_each(values, sides) for values in (stride, call.integers("padding"), dilation))
    for dim, (k, s, p, d) in enumerate(
        zip(kernel, *settings, strict=True), len(field.dims) - sides
    ):
        field = _slide(field, dim, call.shape[dim], span=(k - 1) * d, stride=s, padding=p)
    return field


def _pool_adaptively(field: Field, call: Call) -> Field:
    rank = len(field.dims)
    for dim in range(rank - len(call.integers("output_size")), rank):
        n, m = field.shape[dim], call.shape[dim]
        field = _scale(field, dim, m, Fraction(n, m), _share(Fraction(n, m)))
    return field


def _share(pace: Fraction) -> Interval:
    return lambda i: (i * pace, (i + 1) * pace)


def _scale(
    field: Field,
    dim: int,
    extent: int,
    pace: Fraction,
    interval: Interval,
) -> Field:
    """Let position i see all positions that an open interval touches."""

    def reach(i: int) -> tuple[int, int]:
        left, right = interval(i)
        return math.floor(left), math.ceil(right) - 1

    return field.taps(dim, extent, reach, every=pace.denominator, rise=pace.numerator)


def _resize(radius: int, *, antialias: bool = False) -> Rule:
    """Make the rule for a resize whose filter reaches `radius` positions to each side."""

    def rule(field: Field, call: Call) -> Field:
        corners = bool(call.arguments.get("align_corners"))
        for dim in range(2, len(call.shape)):
            n, m = field.shape[dim], call.shape[dim]
            fixed = corners and m > 1  # first and last centres meet; else the borders do
            pace = Fraction(n - 1, m - 1) if fixed else Fraction(n, m)
            filtered = _filter(pace, HALF if fixed else pace / 2, radius, antialias=antialias)
            field = _scale(field, dim, m, pace, filtered)
        return field

    return of_source(rule)


def _filter(pace: Fraction, centre: Fraction, radius: int, *, antialias: bool) -> Interval:
    """Give the interval that holds the middles of all positions that a filter looks at.

    A position counts if its middle is inside; half a position less at each end says the same
    of any part of it.
    """
    width = radius * max(Fraction(1), pace) if antialias else Fraction(radius)
    return lambda i: (centre + i * pace - width + HALF, centre + i * pace + width - HALF)


def _resize_to_nearest(offset: Fraction) -> Rule:
    """Make the rule for a resize that takes the position which `offset` of a step falls on."""

    def rule(field: Field, call: Call) -> Field:
        for dim in range(2, len(call.shape)):
            field = _repeat(field, dim, call.shape[dim], offset)
        return field

    return of_source(rule)


def _repeat(field: Field, dim: int, extent: int, offset: Fraction = HALF) -> Field:
    pace = Fraction(field.shape[dim], extent)

    def reach(i: int) -> tuple[int, int]:
        return (math.floor((i + offset) * pace),) * 2

    return field.taps(dim, extent, reach, every=pace.denominator, rise=pace.numerator)


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
        field = _slide(field, dim, call.shape[dim], span=factor - 1, stride=factor, padding=0)
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
    **_named(_resize_to_nearest(Fraction(0)), "upsample_nearest1d", "upsample_nearest2d"),
    **_named(_resize_to_nearest(Fraction(0)), "upsample_nearest3d"),
    **_named(_resize_to_nearest(HALF), "_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
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
