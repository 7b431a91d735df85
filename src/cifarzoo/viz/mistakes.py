"""A model's most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.evaluation.predict import Predictions
from cifarzoo.viz._figure import new_figure, picture
from cifarzoo.viz._inputs import check_int, check_labels, check_names, check_probabilities, to_rgb
from cifarzoo.viz.predictions import MAX_IMAGES, plot_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_mistakes(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor | Predictions,
    class_names: Sequence[str] | None = None,
    *,
    count: int = 18,
    title: str | None = None,
) -> Figure:
    """Draw misclassified images, the most confidently predicted ones first.

    They are drawn as in `plot_predictions`.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W).
        labels: true classes, integers (N,).
        probabilities: what `predict` returns, or float (N,K); each row sums to 1.
        class_names: K names; by default those of the predictions, or numbers.
        count: largest number of images to draw, 1 to 36.
        title: figure title; by default the number of mistakes.

    Returns:
        The figure, with axes as in `plot_predictions`; with none if there are no mistakes.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    check_int("count", count, 1, MAX_IMAGES)
    total = len(to_rgb(images))
    scores = check_probabilities(probabilities, total)
    classes = scores.shape[1]
    labels = check_labels(labels, total, classes)
    names = check_names(class_names, classes, probabilities)
    confidence, predicted = scores.max(1)
    wrong = (predicted != labels).nonzero().flatten()
    if not len(wrong):
        text = f"no mistakes among {total:,} images"
        return new_figure(6.0, 0.6, f"{title}: {text}" if title else text)
    chosen = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count]
    default = f"{len(chosen)} most confident of {len(wrong):,} mistakes among {total:,} images"
    return plot_predictions(
        images[chosen.to(images.device)],
        labels[chosen],
        scores[chosen],
        names,
        title=default if title is None else title,
    )
