"""Captum, the classes to explain, and maps over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from cifarzoo.errors import MissingExtraError
from cifarzoo.evaluation.classifier import evaluation_mode
from cifarzoo.viz._figure import add_colorbar, new_figure, show_pixels
from cifarzoo.viz._inputs import check_labels, check_names, to_rgb
from cifarzoo.viz._layers import model_input

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 12
COLUMNS = 6
TILE = 1.6  # inches
MAX_OPACITY = 0.85


def import_captum() -> Any:  # noqa: ANN401 - captum has no types
    """Import `captum.attr`."""
    try:
        from captum import attr
    except ImportError as error:
        raise MissingExtraError("captum is not installed; pip install captum") from error
    return attr


def explained_classes(
    model: nn.Module, images: Tensor, targets: Tensor | None, class_names: Sequence[str] | None
) -> tuple[Tensor, Tensor, list[str]]:
    """Run the model on the first 12 images, and choose the classes to explain.

    Returns:
        The model's inputs, float (N,3,H,W); the classes, int64 (N,), on the same device; and a
        caption for each image: class and probability.
    """
    to_rgb(images)  # checks them
    inputs = model_input(model, images[:MAX_IMAGES].detach())
    with evaluation_mode(model):
        probabilities = model(inputs).float().softmax(1)
    names = check_names(class_names, probabilities.shape[1], model)
    chosen = probabilities.argmax(1)
    if targets is not None:
        chosen = check_labels(targets, len(images), len(names))[:MAX_IMAGES].to(chosen)
    rows = zip(chosen.tolist(), probabilities.tolist(), strict=True)
    return inputs, chosen, [f"{names[index]}, {row[index]:.0%}" for index, row in rows]


def draw_attribution(
    inputs: Tensor,
    maps: Tensor,
    captions: Sequence[str],
    *,
    cmap: str,
    limits: tuple[float, float],
    label: str,
    title: str | None,
    default: str,
) -> Figure:
    """Draw images (N,3,H,W), and below each its map (N,H,W) over it in grey.

    The larger a value's magnitude, the less of the image is visible. The colour map spans `limits`;
    `label` names the values and their unit.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns = min(COLUMNS, len(maps))
    bands = math.ceil(len(maps) / columns)
    figure = new_figure(TILE * columns + 0.9, (2 * TILE + 0.3) * bands, title, default)
    axes = figure.subplots(2 * bands, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    colours = ScalarMappable(Normalize(*limits), cmap)
    pairs = zip(to_rgb(inputs), maps.float().cpu().numpy(), strict=True)
    for i, (pixels, values) in enumerate(pairs):
        band, column = divmod(i, columns)
        show_pixels(axes[2 * band, column], pixels, above=captions[i])
        opacity = MAX_OPACITY * np.sqrt((abs(values) / limits[1]).clip(0, 1))[..., None]
        grey = 0.35 + 0.5 * pixels.mean(2, keepdims=True)
        over = colours.to_rgba(values)[..., :3]
        show_pixels(axes[2 * band + 1, column], (1 - opacity) * grey + opacity * over)
    add_colorbar(figure, colours, axes, label, shrink=min(1.0, 2.2 / figure.get_figheight()))
    return figure
