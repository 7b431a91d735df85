"""Whether a model's confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cifarzoo.errors import ShapeError
from cifarzoo.evaluation.score import check_probabilities
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.spec import require_whole
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import OF_LISTS, check_labels, require_tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_reliability"]

MOST_BINS = 100


@dataclass(frozen=True, slots=True)
class _Bin:
    """The images of one range of confidence.

    Attributes:
        index: of the range, from 0.
        confidence: their mean, in [0, 1].
        right: how many are classified right.
        n: how many there are, at least 1.
    """

    index: int
    confidence: float
    right: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of them classified right."""
        return self.right / self.n


def plot_reliability(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, title: str | None = None
) -> Figure:
    """Draw accuracy against confidence, and how the confidence is spread.

    Images are sorted into bins of equal width by the probability of the likeliest class. A model
    whose confidence can be believed lies on the diagonal; below it, it is too sure of itself.
    The expected calibration error is the mean distance from the diagonal, weighted by images.

    Args:
        probabilities: float (N,K), each row adding up to 1; `predict` gives them.
        labels: true classes, integers (N,).
        bins: number of bins, 2 to 100.
        title: above the figure; None writes the expected calibration error.

    Returns:
        The figure: accuracy against confidence on the first axis, with 95 % Wilson intervals; on
        the second the share of images in each bin.

    Raises:
        OptionError: bins is not allowed, or an argument is not a tensor.
        ShapeError: labels or probabilities do not fit each other, or N is 0.
        RangeError: probabilities are outside their range.
        LabelError: labels are not integers in 0..K-1.

    Source: arXiv 1706.04599, figure 1.
    """
    require_whole("bins", bins, 2, MOST_BINS, f"2 to {MOST_BINS}")
    require_tensor("labels", labels, OF_LISTS)
    likely = check_probabilities(probabilities, labels.numel())
    truths = torch.tensor(check_labels(labels, len(likely), classes=likely.shape[1]))
    if not len(truths):
        raise ShapeError("probabilities are empty; needed is at least one image")
    found = _bins(likely, truths, bins)
    error = sum(each.n * abs(each.accuracy - each.confidence) for each in found) / len(truths)
    text = f"expected calibration error {error:.2%} over {bins} bins, {len(truths):,} images"
    figure = _style.new_figure(6.0, 5.6, title=text if title is None else title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_accuracy(upper, found)
    _draw_shares(lower, found, bins, len(truths))
    _style.legend_below(figure, *upper.get_legend_handles_labels())
    return figure


def _bins(probabilities: Tensor, labels: Tensor, bins: int) -> list[_Bin]:
    """Sort into bins (low, high], as torchmetrics does; those without images are left out."""
    confidence, guesses = probabilities.max(1)
    right = guesses == labels
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype)
    place = torch.bucketize(confidence.clamp(max=1), edges[1:-1])
    members = [place == index for index in range(bins)]
    return [
        _Bin(index, float(confidence[m].mean()), int(right[m].sum()), int(m.sum()))
        for index, m in enumerate(members)
        if m.any()
    ]


def _draw_accuracy(axis: Axes, found: list[_Bin]) -> None:
    colours = _style.palette()
    axis.plot([0, 100], [0, 100], color=colours.grey, linestyle="--", label="believable")
    x = np.array([100 * each.confidence for each in found])
    y = np.array([100 * each.accuracy for each in found])
    ends = 100 * np.array([accuracy_interval(each.right, each.n) for each in found])
    axis.vlines(x, np.minimum(x, y), np.maximum(x, y), color=colours.vermillion, alpha=0.35, lw=6)
    axis.errorbar(
        x,
        y,
        yerr=np.abs(ends.T - y),
        color=colours.blue,
        marker="o",
        markersize=4,
        linewidth=1.2,
        capsize=2.5,
        label="accuracy, 95 % interval",
    )
    _style.dress(axis, x="", y="accuracy (%)")
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 100)


def _draw_shares(axis: Axes, found: list[_Bin], bins: int, total: int) -> None:
    width = 100 / bins
    middles = [width * (each.index + 0.5) for each in found]
    heights = [100 * each.n / total for each in found]
    axis.bar(middles, heights, width=0.92 * width, color=_style.palette().blue, alpha=0.75)
    _style.dress(axis, x="confidence: probability of the likeliest class (%)", y="images (%)")
