"""Images beside what a model takes them for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.evaluation.score import check_probabilities
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_labels, check_names, rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_predictions"]

COLUMNS = 6
MOST = 36
BARS = 3
TILE = 1.5  # inches


def plot_predictions(
    images: Tensor,
    labels: Tensor | None,
    probabilities: Tensor,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw images with their true class above and the three likeliest classes below.

    The true class's bar is blue; where another class comes first, that bar is vermillion and the
    image is marked with a cross.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 36 are drawn.
        labels: true classes, integers (N,); None where they are not known.
        probabilities: float (N,K), each row adding up to 1.
        class_names: K names; None writes the classes as numbers.
        title: above the figure; None writes how many of how many are shown, if not all are.

    Returns:
        The figure: for each image an axis with the image, then one with the bars.

    Raises:
        OptionError: images or labels are not tensors, or there are not K names.
        ShapeError: images are not (N,3,H,W), N is 0, or labels or probabilities do not fit.
        RangeError: images or probabilities are outside their range.
        LabelError: labels are not integers in 0..K-1.
    """
    pictures = rgb(images)
    probabilities = check_probabilities(probabilities, len(images))
    classes = probabilities.shape[1]
    names = check_names(class_names, classes)
    truths = None if labels is None else check_labels(labels, len(images), classes=classes)
    shown = min(len(images), MOST)
    columns = min(COLUMNS, shown)
    rows = math.ceil(shown / columns)
    if title is None and shown < len(images):
        title = f"the first {shown} of {len(images):,} images"
    figure = _style.new_figure(
        TILE * columns, (TILE + 0.83) * rows + 0.4 * bool(title), title=title
    )
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[TILE + 0.1, 0.6] * rows)
    for i in range(shown):
        row, column = 2 * (i // columns), i % columns
        truth = None if truths is None else truths[i]
        image_axis = figure.add_subplot(grid[row, column])
        _style.undress(image_axis)
        image_axis.imshow(pictures[i], interpolation=_style.PIXELS)
        _write_truth(image_axis, truth, int(probabilities[i].argmax()), names)
        _draw_bars(figure.add_subplot(grid[row + 1, column]), probabilities[i], truth, names)
    return figure


def _write_truth(axis: Axes, truth: int | None, guess: int, names: list[str]) -> None:
    if truth is None:
        axis.set_title(names[guess], fontsize=_style.SMALL, pad=3)
        return
    right = truth == guess
    axis.set_title(
        f"{names[truth]} {'✓' if right else '✗'}",
        fontsize=_style.SMALL,
        pad=3,
        color=_style.palette().blue if right else _style.palette().vermillion,
    )


def _draw_bars(axis: Axes, probabilities: Tensor, truth: int | None, names: list[str]) -> None:
    values, classes = probabilities.topk(min(BARS, len(names)))
    colours = [_bar_colour(int(c), truth, first=i == 0) for i, c in enumerate(classes)]
    axis.barh(range(len(values)), values.tolist(), color=colours, alpha=0.45, height=0.9)
    for i, (value, index) in enumerate(zip(values.tolist(), classes.tolist(), strict=True)):
        axis.text(0.02, i, names[index], fontsize=_style.SMALL, va="center")
        axis.text(
            0.98,
            i,
            "<1%" if 0 < value < 0.005 else f"{value:.0%}",
            fontsize=_style.SMALL,
            va="center",
            ha="right",
        )
    axis.set_xlim(0, 1)
    axis.set_ylim(len(values) - 0.5, -0.5)  # the likeliest on top
    axis.set_axis_off()


def _bar_colour(index: int, truth: int | None, *, first: bool) -> str:
    if truth is None or index == truth:
        return _style.palette().blue if first or truth is not None else _style.palette().grey
    return _style.palette().vermillion if first else _style.palette().grey
