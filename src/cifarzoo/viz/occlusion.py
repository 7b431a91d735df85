"""Occlusion: the probability that is lost when part of an image is covered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.evaluation.classifier import evaluation_mode
from cifarzoo.viz._attribution import draw_attribution, explained_classes, import_captum
from cifarzoo.viz._figure import picture
from cifarzoo.viz._inputs import check_int
from cifarzoo.viz.theme import DIVERGING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 64  # images in a forward pass


@picture
def plot_occlusion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    *,
    window: int = 8,
    title: str | None = None,
) -> Figure:
    """Draw how much probability is lost when a grey square covers part of an image.

    The square moves in steps of a quarter of its side; each pixel shows the mean over the squares
    that cover it. The method makes no assumptions about the network, so it is a check on
    `plot_grad_cam`. The model is not changed.

    Args:
        model: an `ImageClassifier`, or any module that takes float (N,3,H,W) in [0, 1].
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        targets: the class to explain for each image, integers (N,); by default the predicted one.
        class_names: K names; by default those of the model, or numbers.
        window: side of the square in pixels.
        title: figure title; by default a description with the size of the square.

    Returns:
        The figure, laid out as in `plot_grad_cam`.

    Raises:
        MissingExtraError: captum is not installed.
        InvalidTypeError, InvalidValueError: an argument is not accepted.

    Source: arXiv 1311.2901, section 4.2, as implemented by captum.
    """
    attr = import_captum()
    inputs, classes, captions = explained_classes(model, images, targets, class_names)
    check_int("window", window, 1, min(inputs.shape[2:]))
    stride = max(1, window // 4)
    with evaluation_mode(model):
        lost = attr.Occlusion(lambda batch: model(batch).float().softmax(1)).attribute(
            inputs,
            (3, window, window),
            (3, stride, stride),
            baselines=0.5,
            target=classes,
            perturbations_per_eval=max(1, BATCH // len(inputs)),
        )
    maps = 100 * lost[:, 0]
    limit = float(maps.abs().max()) or 1.0
    return draw_attribution(
        inputs,
        maps,
        captions,
        cmap=DIVERGING,
        limits=(-limit, limit),
        label="probability lost (percentage points)",
        title=title,
        default=f"probability lost when a grey square of {window}×{window} pixels covers the image",
    )
