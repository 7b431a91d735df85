"""The receptive field of a layer on an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.arithmetic import receptive_area
from cifarzoo.viz._figure import add_colorbar, new_figure, picture, show_pixels
from cifarzoo.viz._inputs import check_image
from cifarzoo.viz._layers import full_name, input_gradient
from cifarzoo.viz._tiles import draw_image
from cifarzoo.viz.theme import LIGHT, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 3.2  # inches


@picture
def plot_receptive_field(
    model: nn.Module,
    image: Tensor,
    layer: str,
    position: tuple[int, int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw the part of an image that a position of a layer depends on.

    A frame shows the receptive field: the pixels that the position can depend on. Next to it is the
    norm of the gradient, with respect to each pixel of this image, of the layer's maps summed over
    channels. It is usually concentrated near the centre of the frame (arXiv 1701.04128).

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: name in `named_modules`; a leading "network." may be omitted.
        position: row and column on the layer's maps; by default the centre.
        title: figure title; by default the layer and the size of its receptive field.

    Returns:
        The figure: the image with the frame on the first axis, the norm of the gradient on the
        second, its colour bar on the third.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted, or the layer has no maps.
    """
    from matplotlib.patches import Rectangle

    check_image(image)
    name = full_name(model, layer)
    size = (3, *image.shape[1:])
    (top, bottom), (first, last) = receptive_area(model, name, position, size)
    strength = input_gradient(model, image, name, position)
    default = f"{layer}: receptive field of {bottom - top}×{last - first} pixels"
    figure = new_figure(2 * SIDE + 0.8, SIDE + 0.3, title, default)
    left, right = figure.subplots(1, 2)
    draw_image(left, image)
    pixels = strength.numpy()
    shown = show_pixels(right, pixels, above="influence of each pixel", cmap=SEQUENTIAL, vmin=0)
    corner, width, height = (first - 0.5, top - 0.5), last - first, bottom - top
    for axis in (left, right):
        for colour, line in (("white", 3.2), (LIGHT.vermillion, 1.6)):  # visible on any image
            frame = Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line)
            axis.add_patch(frame)
    add_colorbar(figure, shown, right, "norm of the gradient")
    return figure
