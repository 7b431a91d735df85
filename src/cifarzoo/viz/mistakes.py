"""What a model is most sure of, and wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cifarzoo.evaluation.score import check_probabilities
from cifarzoo.spec import require_whole
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_labels, check_names, require_images
from cifarzoo.viz.predictions import MOST, plot_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_mistakes"]


def plot_mistakes(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    class_names: Sequence[str] | None = None,
    *,
    count: int = 18,
    title: str | None = None,
) -> Figure:
    """Draw the images that a model is most sure of and wrong about, the surest first.

    They are drawn as `plot_predictions` does.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W).
        labels: true classes, integers (N,).
        probabilities: float (N,K), each row adding up to 1; `predict` gives them.
        class_names: K names; None writes the classes as numbers.
        count: how many to draw, 1 to 36; fewer where there are not as many mistakes.
        title: above the figure; None says how many of how many are shown.

    Returns:
        The figure: for each image an axis with the image, then one with the bars; without a
        mistake one empty axis that says so.

    Raises:
        OptionError: count is not allowed, images or labels are not tensors, or there are not K
            names.
        ShapeError: images are not (N,3,H,W), N is 0, or labels or probabilities do not fit.
        RangeError: images or probabilities are outside their range.
        LabelError: labels are not integers in 0..K-1.
    """
    require_whole("count", count, 1, MOST, f"1 to {MOST}")
    require_images(images)
    likely = check_probabilities(probabilities, len(images))
    truths = torch.tensor(check_labels(labels, len(images), classes=likely.shape[1]))
    names = check_names(class_names, likely.shape[1])
    sureness, guesses = likely.max(1)
    wrong = (guesses != truths).nonzero().flatten()
    if not len(wrong):
        return _none_found(len(images), title)
    chosen = wrong[sureness[wrong].argsort(descending=True, stable=True)][:count]
    shown = f"the {len(chosen)} surest of {len(wrong):,} mistakes among {len(images):,} images"
    return plot_predictions(
        images[chosen.to(images.device)],
        truths[chosen],
        likely[chosen],
        names,
        title=shown if title is None else title,
    )


def _none_found(images: int, title: str | None) -> Figure:
    text = f"no mistake among {images:,} images"
    figure = _style.new_figure(4.0, 1.0, title=text if title is None else title)
    axis = figure.subplots()
    axis.set_axis_off()
    if title is not None:
        axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=_style.NORMAL)
    return figure
