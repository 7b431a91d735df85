"""A sheet of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_labels, check_names, rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_images"]

COLUMNS = 8
MOST = 64


def plot_images(
    images: Tensor,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw images, each under its label.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 64 are drawn.
        labels: integers (N,); None draws none.
        class_names: one per class; None writes the labels as numbers.
        title: above the figure; None writes how many of how many are shown, if not all are.

    Returns:
        The figure, one axis per image.

    Raises:
        OptionError: images or labels are not tensors.
        ShapeError: images are not (N,3,H,W), N is 0, or there is not one label per image.
        RangeError: images are neither uint8 nor float in [0, 1].
        LabelError: labels are not integers, negative, or have no name.
    """
    pictures = rgb(images)
    classes = None if class_names is None else len(class_names)
    numbers = None if labels is None else check_labels(labels, len(images), classes=classes)
    names = check_names(class_names, classes or max(numbers or [0]) + 1)
    shown = min(len(images), MOST)
    columns = min(COLUMNS, shown)
    if title is None and shown < len(images):
        title = f"the first {shown} of {len(images):,} images"
    height = (1.05 if labels is None else 1.3) * math.ceil(shown / columns) + 0.4 * bool(title)
    figure = _style.new_figure(1.1 * columns, height, title=title)
    for i, axis in enumerate(_style.tile_axes(figure, shown, columns=columns)):
        axis.imshow(pictures[i], interpolation=_style.PIXELS)
        if numbers is not None:
            axis.set_title(names[numbers[i]], fontsize=_style.SMALL, pad=3)
    return figure
