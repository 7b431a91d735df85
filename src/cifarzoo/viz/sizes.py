"""Accuracy against size, of many models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from cifarzoo.errors import OptionError, RangeError, one_of, wrong_kind
from cifarzoo.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ModelPoint", "SizeName", "plot_sizes"]

SizeName: TypeAlias = Literal["parameters", "multiply-accumulates"]
OURS, THEIRS = "ours", "published by others"


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
    """Draw the accuracy of models against their size, which is on a logarithmic scale.

    Args:
        points: the models, at least one.
        size: what their sizes are.
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
    figure = _style.new_figure(7.5, 5.0, title=title)
    axis = figure.subplots()
    axis.set_xscale("log")
    colours = _style.palette()
    _draw_points(axis, [p for p in points if not p.source], colours.blue, OURS, hollow=False)
    _draw_points(axis, [p for p in points if p.source], colours.vermillion, THEIRS, hollow=True)
    unit = " for one image" if size == "multiply-accumulates" else ""
    _style.dress(axis, x=f"{size}{unit}", y="accuracy (%)")
    axis.margins(x=0.12, y=0.1)
    if any(point.source for point in points):
        _style.legend_below(figure, *axis.get_legend_handles_labels())
    _name_points(figure, axis, points)
    return figure


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


def _name_points(figure: Figure, axis: Axes, points: Sequence[ModelPoint]) -> None:
    """Write the names beside the points, each where it covers the least of what is there."""
    figure.draw_without_rendering()
    to_pixels = axis.transData.transform
    spots = [tuple(to_pixels((p.size, 100 * p.accuracy))) for p in points]
    inch = figure.dpi
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    frame = axis.get_window_extent()
    edges = (frame.x0, frame.y0, frame.x1, frame.y1)
    for point, (x, y) in zip(points, spots, strict=True):
        width, height = _style.text_width(point.name, _style.SMALL) * inch + 4, 0.15 * inch
        boxes = {
            place: _box(x + dx * width + shift, y + dy * height, width, height)
            for place, (dx, dy, shift) in PLACES.items()
        }
        best = min(boxes, key=lambda place: _covered(boxes[place], taken, edges))
        taken.append(boxes[best])
        dx, dy, shift = PLACES[best]
        axis.annotate(
            point.name,
            (point.size, 100 * point.accuracy),
            xytext=(72 / inch * (dx * width + shift + width / 2), 72 / inch * (dy + 0.5) * height),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_style.SMALL,
            annotation_clip=False,
        )


Box: TypeAlias = tuple[float, float, float, float]
# where a name can stand: in widths and heights of it from the point, and pixels to the side
PLACES = {
    "right": (0.0, -0.5, 10.0),
    "left": (-1.0, -0.5, -10.0),
    "above": (-0.5, 0.6, 0.0),
    "below": (-0.5, -1.6, 0.0),
    "above right": (0.0, 0.3, 4.0),
    "below right": (0.0, -1.3, 4.0),
    "above left": (-1.0, 0.3, -4.0),
    "below left": (-1.0, -1.3, -4.0),
}


def _box(left: float, bottom: float, width: float, height: float) -> Box:
    return left, bottom, left + width, bottom + height


def _covered(box: Box, taken: Sequence[Box], edges: Box) -> float:
    """Give how much of others a box covers, and of itself lies outside, in square pixels."""
    own = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_overlap(box, each) for each in taken) + 10 * (own - _overlap(box, edges))


def _overlap(one: Box, two: Box) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    return max(0.0, width) * max(0.0, height)
