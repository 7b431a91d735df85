"""Accuracy of models against their size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.validation import PositiveFloat, UnitInterval, settings, validate
from cifarzoo.viz._figure import SMALL, legend_below, new_figure, picture, style_axes
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats: TypeAlias = NDArray[np.float64]
SizeName: TypeAlias = Literal["parameters", "multiply-accumulates"]

MIN_ERROR = 0.1  # percent, so that an accuracy of 100 % is on the scale
MARKER = 4.5  # points from the centre of a marker to its edge
PLACES = (  # positions of a name relative to its point, in order of preference
    *((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)),
    *((0.8, 2), (0.8, -2), (-0.8, 2), (-0.8, -2)),
)
SWEEPS = 10
TICKS = (0, 20, 40, 50, 60, 70, 75, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.8)


@settings
class ModelPoint:
    """A model in `plot_sizes`.

    Attributes:
        name: label of the point.
        size: number of parameters, or of multiply-accumulates for one image; at least 1.
        accuracy: in [0, 1].
        std: standard deviation of the accuracy over seeds, in [0, 1]; None draws no error bar.
        source: where the accuracy was published; empty for our own.
    """

    name: str
    size: Annotated[PositiveFloat, Field(ge=1)]
    accuracy: UnitInterval
    std: UnitInterval | None = None
    source: str = ""


@picture
def plot_sizes(
    points: Sequence[ModelPoint], *, size: SizeName = "parameters", title: str | None = None
) -> Figure:
    """Draw the accuracy of models against their size.

    Both scales are logarithmic; the accuracy's is logarithmic in the error, so 90 to 95 % is as far
    as 95 to 97.5 %, each of which halves the error. Accuracies published by others are drawn as
    hollow squares.

    Args:
        points: one or more models.
        size: the unit of their sizes, "parameters" or "multiply-accumulates".
        title: figure title; by default none.

    Returns:
        The figure, with one axis.

    Raises:
        InvalidTypeError: a point is not a ModelPoint.
        InvalidValueError: there are no points, or size is unknown.
    """
    validate("size", size, SizeName)
    for point in points:
        if not isinstance(point, ModelPoint):
            raise InvalidTypeError(f"points contains {point!r}: expected a ModelPoint")
    if not points:
        raise InvalidValueError("points is empty: expected at least one ModelPoint")
    figure = new_figure(7.5, 6.0, title)
    axis = figure.subplots()
    axis.set_xscale("log")
    axis.set_yscale("function", functions=(_from_accuracy, _to_accuracy))
    ours, theirs = [p for p in points if not p.source], [p for p in points if p.source]
    blue, vermillion = palette().blue, palette().vermillion
    _draw_points(axis, ours, label="ours", color=blue, marker="o")
    hollow = {"marker": "s", "markerfacecolor": "none"}
    _draw_points(axis, theirs, label="published by others", color=vermillion, **hollow)
    style_axes(axis, x=size if size == "parameters" else f"{size} for one image", y="accuracy (%)")
    # Before matplotlib 3.11, error bars on a scale of this kind would extend the axis down to 0.
    axis.relim()
    for point in points:
        ends = [100 * (point.accuracy + sign * (point.std or 0)) for sign in (-1, 1)]
        axis.update_datalim([(point.size, end) for end in ends])
    axis.margins(x=0.12, y=0.1)
    low, high = axis.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    if theirs:
        legend_below(figure, *axis.get_legend_handles_labels())
    for label in axis.get_xticklabels(which="both"):
        label.set_parse_math(True)  # powers of ten
    _name_points(figure, axis, points)
    return figure


def _from_accuracy(percent: Floats) -> Floats:
    return -np.log10(np.maximum(100 - percent, MIN_ERROR))


def _to_accuracy(place: Floats) -> Floats:
    return 100 - 10**-place


def _draw_points(axis: Axes, points: Sequence[ModelPoint], **style: Any) -> None:  # noqa: ANN401
    if points:
        x, y = [p.size for p in points], [100 * p.accuracy for p in points]
        std = [math.nan if p.std is None else 100 * p.std for p in points]
        axis.errorbar(x, y, yerr=std, linestyle="", capsize=2.5, **style)


def _name_points(figure: Figure, axis: Axes, points: Sequence[ModelPoint]) -> None:
    """Write each name next to its point, where it overlaps least with the rest.

    All lengths are in points, so the places do not depend on the figure's resolution.
    """
    figure.draw_without_rendering()  # lays out the axes
    scale = 72 / figure.dpi
    style: Any = {"ha": "center", "va": "center", "fontsize": SMALL, "annotation_clip": False}
    style |= {"xytext": (0, 0), "textcoords": "offset points"}
    places = [(p.size, 100 * p.accuracy) for p in points]
    texts = [axis.annotate(p.name, xy, **style) for p, xy in zip(points, places, strict=True)]
    halves = scale * np.array([text.get_window_extent().size for text in texts])[:, None] / 2
    spots = scale * axis.transData.transform(places)
    ends = [(p.size, 100 * (p.accuracy + (p.std or 0))) for p in points]
    bars = (scale * axis.transData.transform(ends) - spots)[:, 1]
    marks = np.stack([np.full(len(points), MARKER), bars.clip(MARKER)], axis=1)
    marks = np.concatenate([spots - marks, spots + marks], axis=1)
    offsets = np.array(PLACES) * (halves + np.array([MARKER + 3.5, 3]))
    centres = spots[:, None] + offsets
    boxes = np.concatenate([centres - halves, centres + halves], axis=2)  # (names, places, 4)
    frame = scale * np.array(axis.get_window_extent().extents)
    outside = 4 * halves.prod(2) - _overlap(boxes, frame)
    alone = _overlap(boxes[:, :, None], marks).sum(2) + 10 * outside + 0.01 * np.arange(len(PLACES))
    others = ~np.eye(len(points), dtype=bool)
    chosen = alone.argmin(1)
    for _ in range(SWEEPS):
        for i in range(len(points)):
            taken = boxes[others[i], chosen[others[i]]]
            chosen[i] = (alone[i] + _overlap(boxes[i][:, None], taken).sum(1)).argmin()
    for text, offset, index in zip(texts, offsets, chosen, strict=True):
        text.set_position(tuple(offset[index]))


def _overlap(a: Floats, b: Floats) -> Floats:
    """Return the area shared by boxes (..., 4): left, bottom, right, top."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(sides.clip(0).prod(-1))
