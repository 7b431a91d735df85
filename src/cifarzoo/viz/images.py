"""Images with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from cifarzoo.viz._figure import new_tiles, picture, show_pixels
from cifarzoo.viz._inputs import check_labels, check_names, cpu_tensor, to_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 64


@picture
def plot_images(
    images: Tensor,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw images with their labels above them.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 64 are drawn.
        labels: integers (N,); None for no labels.
        class_names: one per class; None for numbers.
        title: figure title; by default the number of images, if not all are shown.

    Returns:
        The figure, one axis per image.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    pixels = to_rgb(images)
    count, shown = len(pixels), min(len(pixels), MAX_IMAGES)
    texts = [""] * count
    if labels is not None:
        largest = max([0, *cpu_tensor("labels", labels).flatten().tolist()])
        classes = int(largest) + 1 if class_names is None else len(class_names)
        names = check_names(class_names, classes)
        texts = [names[label] for label in check_labels(labels, count, classes).tolist()]
    default = f"first {shown} of {count:,} images" if shown < count else ""
    size = (1.1, 1.05 if labels is None else 1.3)
    figure, axes = new_tiles(shown, columns=8, size=size, title=title, default=default)
    for axis, values, text in zip(axes, pixels, texts, strict=False):
        show_pixels(axis, values, above=text)
    return figure
