"""Images with a model's most probable classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.evaluation.predict import Predictions
from cifarzoo.viz._figure import SMALL, new_figure, picture, show_pixels
from cifarzoo.viz._inputs import check_labels, check_names, check_probabilities, to_rgb
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
MAX_IMAGES = 36
TILE = 1.5  # inches


@picture
def plot_predictions(
    images: Tensor,
    labels: Tensor | None,
    probabilities: Tensor | Predictions,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw images below their true class and above the three most probable classes.

    The bar of the true class is blue. If another class is the most probable one, its bar is
    vermillion and the image is marked with a cross.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 36 are drawn.
        labels: true classes, integers (N,); None if unknown.
        probabilities: what `predict` returns, or float (N,K); each row sums to 1.
        class_names: K names; by default those of the predictions, or numbers.
        title: figure title; by default the number of images, if not all are shown.

    Returns:
        The figure: for each image an axis with the image, then one with the bars.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    pixels = to_rgb(images)
    count, shown = len(pixels), min(len(pixels), MAX_IMAGES)
    scores = check_probabilities(probabilities, count)
    classes = scores.shape[1]
    names = check_names(class_names, classes, probabilities)
    truths: list[int | None] = [None] * count
    if labels is not None:
        truths = check_labels(labels, count, classes).tolist()
    columns = min(COLUMNS, shown)
    rows = math.ceil(shown / columns)
    default = f"first {shown} of {count:,} images" if shown < count else ""
    figure = new_figure(TILE * columns, (TILE + 0.83) * rows, title, default)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[TILE + 0.1, 0.6] * rows)
    for i in range(shown):
        row, column = 2 * (i // columns), i % columns
        upper, lower = (figure.add_subplot(grid[row + j, column]) for j in (0, 1))
        _draw_image(upper, pixels[i], truths[i], int(scores[i].argmax()), names)
        _draw_bars(lower, scores[i], truths[i], names)
    return figure


def _draw_image(
    axis: Axes, pixels: object, truth: int | None, prediction: int, names: list[str]
) -> None:
    if truth is None:
        show_pixels(axis, pixels, above=names[prediction])
        return
    correct = truth == prediction
    show_pixels(axis, pixels, above=f"{names[truth]} {'✓' if correct else '✗'}")
    axis.title.set_color(palette().blue if correct else palette().vermillion)


def _draw_bars(axis: Axes, probabilities: Tensor, truth: int | None, names: list[str]) -> None:
    top, classes = (each.tolist() for each in probabilities.topk(min(3, len(names))))
    colours = [palette().grey] * len(top)
    colours[0] = palette().blue if truth is None else palette().vermillion
    if truth in classes:
        colours[classes.index(truth)] = palette().blue
    axis.barh(range(len(top)), top, color=colours, alpha=0.45, height=0.9)
    for row, (value, index) in enumerate(zip(top, classes, strict=True)):
        percent = "<1%" if 0 < value < 0.005 else f"{value:.0%}"
        axis.text(0.02, row, names[index], fontsize=SMALL, va="center")
        axis.text(0.98, row, percent, fontsize=SMALL, va="center", ha="right")
    axis.set_xlim(0, 1)
    axis.set_ylim(len(top) - 0.5, -0.5)  # the most probable class on top
    axis.set_axis_off()
