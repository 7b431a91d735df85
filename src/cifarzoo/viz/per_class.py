"""How well each class is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.errors import RangeError
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_names
from cifarzoo.viz.confusion import counts_of, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cifarzoo.evaluation.evaluate import Evaluation

__all__ = ["plot_per_class"]

ROW = 0.3  # inches
ROOM = 12  # percentage points to the right of the bars, for the figures


def plot_per_class(
    confusion: Tensor | Evaluation,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw the accuracy of each class as a bar, with its 95 % interval.

    The interval is Wilson's, for the number of images of the class. A dotted line shows the
    accuracy over all images. A class without images has no bar.

    Args:
        confusion: what `evaluate` returns; or counts (K,K), rows are true classes.
        class_names: K names; None writes the classes as numbers.
        title: above the figure; None writes the accuracy.

    Returns:
        The figure, with one axis; the first class is on top.

    Raises:
        OptionError: there are not K names, or confusion is of another type.
        ShapeError: confusion is not square, or empty.
        RangeError: a count is negative or not finite, or there is no image at all.
    """
    counts = counts_of(confusion)
    names = check_names(class_names, len(counts))
    if not counts.sum():
        raise RangeError("confusion counts no image; evaluate on at least one")
    figure = _style.new_figure(
        6.0,
        ROW * len(names) + 1.2,
        title=headline(confusion, counts) if title is None else title,
    )
    axis = figure.subplots()
    for row, (right, total) in enumerate(zip(counts.diagonal(), counts.sum(1), strict=True)):
        _draw_class(axis, row, int(right), int(total))
    overall = 100 * counts.trace() / counts.sum()
    colours = _style.palette()
    axis.axvline(overall, color=colours.vermillion, linestyle=":", label="all classes")
    _style.dress(axis, x="accuracy (%)", y="")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 100 + ROOM)
    axis.set_xticks(range(0, 101, 20))
    axis.grid(visible=False, axis="y")
    _style.legend_below(figure, *axis.get_legend_handles_labels())
    return figure


def _draw_class(axis: Axes, row: int, right: int, total: int) -> None:
    colours = _style.palette()
    if not total:
        axis.text(1, row, "no images", va="center", fontsize=_style.SMALL, color=colours.grey)
        return
    share = 100 * right / total
    low, high = (100 * end for end in accuracy_interval(right, total))
    label = "95 % interval" if not axis.containers else None
    axis.barh(row, share, color=colours.blue, height=0.7, alpha=0.75)
    axis.errorbar(
        share,
        row,
        xerr=[[max(0.0, share - low)], [max(0.0, high - share)]],
        color=colours.ink,
        capsize=2.5,
        linewidth=1,
        label=label,
    )
    axis.text(max(high, share) + 1.5, row, f"{share:.1f}", va="center", fontsize=_style.SMALL)
