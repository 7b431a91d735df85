"""What part of an image one place of a layer sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.arithmetic.area import receptive_area
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import one_image
from cifarzoo.viz._layers import full_name, input_gradient
from cifarzoo.viz.activations import draw_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_receptive_field"]

SIDE = 3.2  # inches


def plot_receptive_field(
    model: nn.Module,
    image: Tensor,
    layer: str,
    position: tuple[int, int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw the part of an image that one place of a layer can see, and how much each pixel counts.

    A frame on the image shows what the place can depend on at all: the receptive field. Where it
    is wider than the image, the rest is padding. Beside it stands how strongly the place answers
    to each pixel of this image: the length of the gradient of the layer's maps, summed over the
    maps, with regard to the pixel. It is mostly narrower than the frame and fades to the sides
    (arXiv 1701.04128).

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: its name, as `named_modules` gives it; of an `ImageClassifier` the leading
            "network." may be left out.
        position: row and column of the place on the layer's maps; None takes the middle.
        title: above the figure; None says what is drawn.

    Returns:
        The figure: the image with the frame on the first axis, the gradient's length on the
        second, its colour bar on the third.

    Raises:
        OptionError: there is no such layer, it took no part in the model's answer, or the
            position is not on its maps.
        ShapeError: image is not (3,H,W), or the layer's maps do not lie over the image.
        RangeError: image is neither uint8 nor float in [0, 1], or the gradient is not finite.
    """
    one_image(image)
    name = full_name(model, layer)
    channels, height, width = image.shape
    rows, columns = receptive_area(model, name, position, (channels, height, width))
    strength = input_gradient(model, image, name, position)
    figure = _style.new_figure(
        2 * SIDE + 0.8, SIDE + 0.7, title=_what(layer, rows, columns) if title is None else title
    )
    left, right = figure.subplots(1, 2)
    draw_image(left, image)
    _frame(left, rows, columns, (height, width))
    picture = right.imshow(strength.numpy(), cmap=_style.SEQUENTIAL, vmin=0)
    picture.set_interpolation(_style.PIXELS)
    _style.undress(right)
    right.set_title("how much each pixel counts", fontsize=_style.SMALL, pad=3)
    _frame(right, rows, columns, (height, width))
    bar = figure.colorbar(picture, ax=right, shrink=0.8, pad=0.02)
    _style.dress_bar(bar, "length of the gradient")
    return figure


def _what(layer: str, rows: tuple[int, int], columns: tuple[int, int]) -> str:
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    return f"{layer}: one place sees {height}×{width} pixels"


def _frame(
    axis: Axes, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw a frame round the pixels; the axis grows where it reaches beyond the image."""
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = rows, columns
    for colour, width in (("white", 3.2), (_style.LIGHT.vermillion, 1.6)):
        axis.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=colour,
                linewidth=width,
            )
        )
    margin = 1.0
    height, width_pixels = size
    axis.set_xlim(min(-0.5, left - 0.5 - margin), max(width_pixels - 0.5, right - 0.5 + margin))
    axis.set_ylim(max(height - 0.5, bottom - 0.5 + margin), min(-0.5, top - 0.5 - margin))
