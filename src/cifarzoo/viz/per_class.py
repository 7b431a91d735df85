"""The accuracy of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.record import Evaluation
from cifarzoo.viz._figure import SMALL, legend_below, new_figure, picture, style_axes
from cifarzoo.viz._inputs import check_names
from cifarzoo.viz.confusion import describe_accuracy, to_counts
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_per_class(
    confusion: Tensor | Evaluation,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw the accuracy of each class as a bar with its 95 % Wilson interval.

    A dotted line marks the accuracy over all classes.

    Args:
        confusion: counts (K,K) with a row for each true class, or what `evaluate` returns.
        class_names: K names; by default those of the Evaluation, or numbers.
        title: figure title; by default the accuracy.

    Returns:
        The figure, with one axis; the first class is on top.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted, or the matrix is missing.
    """
    counts = to_counts(confusion)
    names = check_names(class_names, len(counts), confusion)
    if not counts.sum():
        raise InvalidValueError("confusion is zero: expected at least one image")
    height = 0.3 * len(names) + 0.8
    figure = new_figure(6.0, height, title, describe_accuracy(confusion, counts))
    axis, colours = figure.subplots(), palette()
    correct, total = counts.diagonal(), counts.sum(1)
    rows = total.nonzero()[0]
    accuracy = 100 * correct[rows] / total[rows]
    axis.barh(rows, accuracy, color=colours.blue, height=0.7, alpha=0.75)
    style: Any = {"color": colours.text, "capsize": 2.5, "linewidth": 1, "label": "95 % interval"}
    for row, percent in zip(rows, accuracy, strict=True):
        ends = 100 * np.array(accuracy_interval(int(correct[row]), int(total[row])))
        axis.errorbar(percent, row, xerr=abs(ends - percent)[:, None], **style)
        style["label"] = None  # once in the legend
        axis.text(ends[1] + 1.5, row, f"{percent:.1f}", va="center", fontsize=SMALL)
    for row in (total == 0).nonzero()[0]:
        axis.text(1, row, "no images", va="center", fontsize=SMALL, color=colours.grey)
    overall = 100 * counts.trace() / counts.sum()
    axis.axvline(overall, color=colours.vermillion, linestyle=":", label="all classes")
    style_axes(axis, x="accuracy (%)", y="")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 112)  # room for the numbers
    axis.set_xticks(range(0, 101, 20))
    axis.grid(visible=False, axis="y")
    legend_below(figure, *axis.get_legend_handles_labels())
    return figure
