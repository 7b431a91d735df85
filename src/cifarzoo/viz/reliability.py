"""Calibration: accuracy against confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cifarzoo.evaluation.predict import Predictions
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.viz._figure import legend_below, new_figure, picture, style_axes
from cifarzoo.viz._inputs import check_int, check_labels, check_probabilities, cpu_tensor
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_reliability(
    labels: Tensor, probabilities: Tensor | Predictions, *, bins: int = 15, title: str | None = None
) -> Figure:
    """Draw a reliability diagram: accuracy against confidence, above its histogram.

    Images are grouped into bins of equal width by the probability of the predicted class. A
    calibrated model lies on the diagonal, an overconfident one below it. The expected calibration
    error is the mean distance from the diagonal, weighted by the number of images.

    Args:
        labels: true classes, integers (N,).
        probabilities: what `predict` returns, or float (N,K); each row sums to 1.
        bins: number of bins, 2 to 100.
        title: figure title; by default the expected calibration error.

    Returns:
        The figure: accuracy with 95 % Wilson intervals on the first axis, the percentage of images
        in each bin on the second.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.

    Source: arXiv 1706.04599, figure 1.
    """
    check_int("bins", bins, 2, 100)
    images = max(1, cpu_tensor("labels", labels).numel())
    scores = check_probabilities(probabilities, images)
    correct = scores.argmax(1) == check_labels(labels, images, scores.shape[1])
    confidence = scores.amax(1).numpy()
    # Bins are (low, high], as in the paper.
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    used, sizes = np.unique(place, return_counts=True)
    x = 100 * np.bincount(place, confidence)[used] / sizes
    hits = np.bincount(place, correct)[used]
    y = 100 * hits / sizes
    error = sizes @ abs(x - y) / images
    default = f"expected calibration error {error:.2f}% over {bins} bins, {images:,} images"
    figure = new_figure(6.0, 5.2, title, default)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])

    blue, vermillion, grey = palette().blue, palette().vermillion, palette().grey
    upper.plot([0, 100], [0, 100], color=grey, linestyle="--", label="perfect calibration")
    upper.vlines(x, np.minimum(x, y), np.maximum(x, y), color=vermillion, alpha=0.35, linewidth=6)
    pairs = zip(hits, sizes, strict=True)
    ends = 100 * np.array([accuracy_interval(int(right), int(n)) for right, n in pairs])
    style = {"color": blue, "marker": "o", "markersize": 4, "linewidth": 1.2, "capsize": 2.5}
    upper.errorbar(x, y, yerr=abs(ends.T - y), label="accuracy, 95 % interval", **style)
    style_axes(upper, x="", y="accuracy (%)")
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 100)
    width = 100 / bins
    heights = 100 * sizes / images
    lower.bar(width * (used + 0.5), heights, width=0.92 * width, color=blue, alpha=0.75)
    style_axes(lower, x="confidence: probability of the predicted class (%)", y="images (%)")
    legend_below(figure, *upper.get_legend_handles_labels())
    return figure
