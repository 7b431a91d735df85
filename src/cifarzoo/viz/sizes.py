"""Accuracy against size, of many models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from cifarzoo.errors import OptionError, RangeError, one_of, wrong_kind
from cifarzoo.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ModelPoint", "SizeName", "plot_sizes"]

Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
SizeName: TypeAlias = Literal["parameters", "multiply-accumulates"]
OURS, THEIRS = "ours", "published by others"
LEAST_ERROR = 0.1  # percent: an accuracy of 100 % has a place too
ROUND = (0, 20, 40, 50, 60, 70, 75, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPoint:
    """One model in `plot_sizes`.

    Attributes:
        name: written beside it.
        size: parameters, or multiply-accumulates for one image; 1 or more.
        accuracy: in [0, 1].
        std: standard deviation of the accuracy over seeds, in [0, 1]; None draws no whisker.
        source: whose figure it is; empty for our own. Those of others are drawn hollow.

    Raises:
        RangeError: a number is outside what is allowed.
    """

    name: str
    size: float
    accuracy: float
    std: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.size) and self.size >= 1):
            raise RangeError(f"size of {self.name!r} is {self.size}; allowed: 1 or more")
        if not 0 <= self.accuracy <= 1:
            raise RangeError(f"accuracy of {self.name!r} is {self.accuracy}; allowed: 0 to 1")
        if self.std is not None and not 0 <= self.std <= 1:
            raise RangeError(f"std of {self.name!r} is {self.std}; allowed: 0 to 1, or None")


def plot_sizes(
    points: Sequence[ModelPoint], *, size: SizeName = "parameters", title: str | None = None
) -> Figure:
    """Draw the accuracy of models against their size.

    Both scales are logarithmic, that of the accuracy in the errors that are left: from 90 to 95 %
    is as far as from 95 to 97.5 %, for each halves the errors.

    Args:
        points: the models, at least one.
        size: what their sizes are: "parameters" or "multiply-accumulates".
        title: above the figure; None writes none.

    Returns:
        The figure, with one axis.

    Raises:
        OptionError: there is no point, one is of another kind, or size is not known.
    """
    if size not in get_args(SizeName):
        raise one_of("size", size, get_args(SizeName))
    if not points:
        raise OptionError("points is empty; needed is at least one ModelPoint")
    for point in points:
        if not isinstance(point, ModelPoint):
            raise wrong_kind("a point", point, "a ModelPoint(name=..., size=..., accuracy=...)")
    figure = _style.new_figure(7.5, 6.0, title=title)
    axis = figure.subplots()
    axis.set_xscale("log")
    axis.set_yscale("function", functions=(_from_accuracy, _to_accuracy))
    colours = _style.palette()
    _draw_points(axis, [p for p in points if not p.source], colours.blue, OURS, hollow=False)
    _draw_points(axis, [p for p in points if p.source], colours.vermillion, THEIRS, hollow=True)
    unit = " for one image" if size == "multiply-accumulates" else ""
    _style.dress(axis, x=f"{size}{unit}", y="accuracy (%)")
    _fit(axis, points)
    low, high = axis.get_ylim()
    ticks = [tick for tick in ROUND if low <= tick <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    if any(point.source for point in points):
        _style.legend_below(figure, *axis.get_legend_handles_labels())
    _name_points(figure, axis, points)
    return figure


def _from_accuracy(percent: Values) -> Values:
    """Give where an accuracy lies on its scale."""
    return -np.log10(np.maximum(100 - percent, LEAST_ERROR))


def _to_accuracy(place: Values) -> Values:
    return 100 - 10**-place


def _draw_points(
    axis: Axes, points: Sequence[ModelPoint], colour: str, label: str, *, hollow: bool
) -> None:
    if not points:
        return
    axis.errorbar(
        [point.size for point in points],
        [100 * point.accuracy for point in points],
        yerr=[nan if point.std is None else 100 * point.std for point in points],
        color=colour,
        linestyle="",
        marker="s" if hollow else "o",
        markerfacecolor="none" if hollow else colour,
        capsize=2.5,
        label=label,
    )


def _fit(axis: Axes, points: Sequence[ModelPoint]) -> None:
    """Have the frame hold all points with their whiskers.

    Before matplotlib 3.11 whiskers on such a scale, measured by itself, would stretch it to 0.
    """
    axis.relim()
    for point in points:
        whisker = point.std or 0.0
        ends = point.accuracy - whisker, point.accuracy + whisker
        axis.update_datalim([(point.size, 100 * end) for end in ends])
    axis.margins(x=0.12, y=0.1)


def _name_points(figure: Figure, axis: Axes, points: Sequence[ModelPoint]) -> None:
    """Write the names beside the points, each where it covers the least of what is there."""
    figure.draw_without_rendering()
    scale = UNIT / figure.dpi
    spots = [_spot(axis, point, 0.0, scale) for point in points]
    heights = [
        _spot(axis, point, point.std or 0.0, scale)[1] - y
        for point, (_, y) in zip(points, spots, strict=True)
    ]
    marks = [
        (x - MARKER, y - max(MARKER, whisker), x + MARKER, y + max(MARKER, whisker))
        for (x, y), whisker in zip(spots, heights, strict=True)
    ]
    sizes = [(_style.text_width(point.name, _style.SMALL) * UNIT + 4, 15.0) for point in points]
    frame = axis.get_window_extent()
    edges = (frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale)
    places = _places(spots, marks, sizes, edges)
    for point, (width, height), place in zip(points, sizes, places, strict=True):
        dx, dy, shift = PLACES[place]
        across, up = dx * width + shift + width / 2, (dy + 0.5) * height
        axis.annotate(
            point.name,
            (point.size, 100 * point.accuracy),
            xytext=(72 / UNIT * across, 72 / UNIT * up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_style.SMALL,
            annotation_clip=False,
        )


def _spot(axis: Axes, point: ModelPoint, above: float, scale: float) -> tuple[float, float]:
    """Give where a point, or one above it, lies in the figure."""
    x, y = axis.transData.transform((point.size, 100 * (point.accuracy + above)))
    return float(x) * scale, float(y) * scale


def _places(
    spots: Sequence[tuple[float, float]],
    marks: Sequence[Box],
    sizes: Sequence[tuple[float, float]],
    edges: Box,
) -> list[str]:
    """Choose a place for each name, so that all together cover the least.

    From many starts, each name in turn gives way to all the others until none moves; the best
    end is taken. The starts are always the same ones.
    """
    boxes = [
        _box(x + dx * width + shift, y + dy * height, width, height)
        for (x, y), (width, height) in zip(spots, sizes, strict=True)
        for dx, dy, shift in PLACES.values()
    ]
    n, k = len(spots), len(PLACES)
    alone = np.array([_covered(box, marks, edges) for box in boxes]).reshape(n, k)
    alone += PREFERRED * np.arange(k)  # of two that cover as much, the first
    both = np.array([[_overlap(one, two) for two in boxes] for one in boxes]).reshape(n, k, n, k)
    both[np.arange(n), :, np.arange(n), :] = 0
    everyone, chance = np.arange(n), np.random.default_rng(0)
    best, least = np.zeros(n, dtype=int), np.inf
    for start in range(STARTS):
        now = chance.integers(k, size=n) if start else alone.argmin(1)
        for _ in range(MOST_ROUNDS):
            before = now.copy()
            for index in chance.permutation(n):
                now[index] = (alone[index] + both[index, :, everyone, now].sum(0)).argmin()
            if (now == before).all():
                break
        cost = alone[everyone, now].sum()
        cost += both[everyone, now][:, everyone, now].sum() / 2
        if cost < least:
            best, least = now.copy(), cost
    return [list(PLACES)[place] for place in best]


Box: TypeAlias = tuple[float, float, float, float]
UNIT = 100  # to the inch, in which all of this is measured, whatever the figure's dpi
MARKER = 6.0  # from a point's middle to its edge
STARTS, MOST_ROUNDS = 20, 20
PREFERRED = 0.01  # of covered area
# where a name can stand: in widths and heights of it from the point, and units to the side
PLACES = {
    "right": (0.0, -0.5, 10.0),
    "left": (-1.0, -0.5, -10.0),
    "above": (-0.5, 0.6, 0.0),
    "below": (-0.5, -1.6, 0.0),
    "above right": (0.0, 0.3, 4.0),
    "below right": (0.0, -1.3, 4.0),
    "above left": (-1.0, 0.3, -4.0),
    "below left": (-1.0, -1.3, -4.0),
    "high right": (0.0, 0.9, -6.0),
    "low right": (0.0, -1.9, -6.0),
    "high left": (-1.0, 0.9, 6.0),
    "low left": (-1.0, -1.9, 6.0),
}


def _box(left: float, bottom: float, width: float, height: float) -> Box:
    return left, bottom, left + width, bottom + height


def _covered(box: Box, taken: Sequence[Box], edges: Box) -> float:
    """Give how much of others a box covers, and of itself lies outside."""
    own = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_overlap(box, each) for each in taken) + 10 * (own - _overlap(box, edges))


def _overlap(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return max(0.0, width) * max(0.0, height)
