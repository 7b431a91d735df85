"""The confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cifarzoo.errors import InvalidValueError
from cifarzoo.record import Evaluation
from cifarzoo.validation import validate
from cifarzoo.viz._figure import NORMAL, SMALL, add_colorbar, new_figure, picture
from cifarzoo.viz._inputs import check_names, cpu_tensor
from cifarzoo.viz.theme import luminance, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CellValue: TypeAlias = Literal["count", "percent"]
Floats: TypeAlias = NDArray[np.float64]

MAX_LABELLED = 25  # classes; numbers and names of more would be unreadable


@picture
def plot_confusion(
    confusion: Tensor | Evaluation,
    class_names: Sequence[str] | None = None,
    *,
    values: CellValue = "count",
    title: str | None = None,
) -> Figure:
    """Draw a confusion matrix: true classes in rows, predicted ones in columns.

    Colours show percentages of the true class, so that classes of different sizes compare.

    Args:
        confusion: counts (K,K) with a row for each true class, or what `evaluate` returns.
        class_names: K names; by default those of the Evaluation, or numbers.
        values: content of the cells, "count", or "percent" of the true class.
        title: figure title; by default the accuracy.

    Returns:
        The figure: the matrix on the first axis, its colour bar on the second.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted, or the matrix is missing.
    """
    from matplotlib.colors import LinearSegmentedColormap

    validate("values", values, CellValue)
    counts = to_counts(confusion)
    names = check_names(class_names, len(counts), confusion)
    percents = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)  # 0 for an empty class
    labelled = len(names) <= MAX_LABELLED
    side = max(4.5, 0.62 * len(names) + 1.2) if labelled else 9.0
    figure = new_figure(side + 0.7, side - 0.4, title, describe_accuracy(confusion, counts))
    axis = figure.subplots()
    ends = [palette().background, palette().blue]
    colours = LinearSegmentedColormap.from_list("percent of the true class", ends)
    image = axis.imshow(percents, cmap=colours, vmin=0, vmax=100)
    add_colorbar(figure, image, axis, "share of the true class (%)")
    _name_classes(axis, names)
    if labelled:
        for (row, column), percent in np.ndenumerate(percents):
            count = counts[row, column]
            shown = f"{count:.0f}" if values == "count" else f"{percent:.1f}"
            text = axis.text(column, row, shown, ha="center", va="center")
            text.set_fontsize(NORMAL if count < 10_000 else SMALL)
            dark = "black" if luminance(colours(percent / 100)) > 0.18 else "white"
            text.set_color(dark if count else palette().grey)
    return figure


def to_counts(confusion: Tensor | Evaluation) -> Floats:
    """Return a checked confusion matrix as float64 (K,K)."""
    matrix = confusion.confusion if isinstance(confusion, Evaluation) else confusion
    if matrix is None:
        raise InvalidValueError("this Evaluation was recorded without its confusion matrix")
    counts: Floats = cpu_tensor("confusion", matrix).double().numpy()
    if counts.ndim != 2 or len(set(counts.shape)) != 1 or not counts.size:
        raise InvalidValueError(f"confusion has shape {counts.shape}: expected (K, K)")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise InvalidValueError(f"confusion contains {counts.min():g}: expected counts")
    return counts


def describe_accuracy(confusion: Tensor | Evaluation, counts: Floats) -> str:
    """Return the accuracy as text, with the interval of an Evaluation."""
    total = counts.sum()
    if not total:
        return "no images"
    text = f"accuracy {np.trace(counts) / total:.2%} on {total:,.0f} images"
    if not isinstance(confusion, Evaluation):
        return text
    low, high = confusion.interval
    views = "" if confusion.tta == "none" else f" with {confusion.tta} test-time augmentation"
    return f"{text}{views} (95 % interval {low:.2%} to {high:.2%})"


def _name_classes(axis: Axes, names: list[str]) -> None:
    axis.set_xlabel("predicted class", fontsize=NORMAL)
    axis.set_ylabel("true class", fontsize=NORMAL)
    every = math.ceil(len(names) / MAX_LABELLED)
    places, shown = range(0, len(names), every), names[::every]
    axis.set_yticks(places, shown, fontsize=SMALL)
    axis.set_xticks(places, shown, fontsize=SMALL)
    if max(map(len, names)) > 4:  # horizontal names would overlap
        axis.set_xticks(places, shown, rotation=40, ha="right", rotation_mode="anchor")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
