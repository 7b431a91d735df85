"""What a layer makes of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_indices, rgb
from cifarzoo.viz._layers import layer_maps
from cifarzoo.viz._tiles import draw_map, sign_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_activations"]

COLUMNS = 6
FIRST = 10
TILE = 1.45  # inches


def plot_activations(
    model: nn.Module,
    image: Tensor,
    layer: str,
    indices: Sequence[int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw an image and the activation maps that a layer makes of it.

    Each map is on its own scale, with its range written below it. If any of them is negative
    somewhere, all are drawn red over zero and blue under it. The model is left as it was found.

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: its name, as `named_modules` gives it; of an `ImageClassifier` the leading
            "network." may be left out.
        indices: the maps to draw; None draws the first ten.
        title: above the figure; None says what is drawn.

    Returns:
        The figure: the image on the first axis, then one axis per map.

    Raises:
        OptionError: there is no such layer, or an index is not in 0..C-1.
        ShapeError: image is not (3,H,W), or the layer does not give (N,C,H,W).
        RangeError: image is neither uint8 nor float in [0, 1], or a map or filter is not finite.
    """
    maps = layer_maps(model, image, layer)
    chosen = check_indices(indices, len(maps), what="map", first=FIRST)
    count, height, width = maps.shape
    what = f"{layer}: {len(chosen)} of {count} maps, {height}×{width} pixels"
    tiles = len(chosen) + 1
    columns = min(COLUMNS, tiles)
    figure = _style.new_figure(
        TILE * columns,
        (TILE + 0.3) * math.ceil(tiles / columns) + 0.4,
        title=what if title is None else title,
    )
    first, *rest = _style.tile_axes(figure, tiles, columns=columns)
    draw_image(first, image)
    sign = sign_of(maps[chosen])
    for axis, index in zip(rest, chosen, strict=True):
        draw_map(axis, maps[index], title=f"map {index}", sign=sign)
    return figure


def draw_image(axis: Axes, image: Tensor) -> None:
    """Draw the image that went in, (3,H,W), with its size below."""
    _style.undress(axis)
    axis.imshow(rgb(image[None])[0], interpolation=_style.PIXELS)
    axis.set_title("image", fontsize=_style.SMALL, pad=3)
    height, width = image.shape[1:]
    axis.set_xlabel(f"{height}×{width} pixels", fontsize=_style.SMALL, labelpad=2)
