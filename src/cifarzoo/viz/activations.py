"""The activation maps of a layer for an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.viz._figure import new_tiles, picture
from cifarzoo.viz._inputs import check_indices
from cifarzoo.viz._layers import layer_maps
from cifarzoo.viz._tiles import draw_image, draw_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_activations(
    model: nn.Module,
    image: Tensor,
    layer: str,
    indices: Sequence[int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw an image and a layer's activation maps for it.

    Each map has its own scale; its range is written below. If a map has negative values, all of
    them are red above zero and blue below. The model is not changed.

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: name in `named_modules`; a leading "network." may be omitted.
        indices: the maps to draw; by default the first ten.
        title: figure title; by default the layer and the number and size of its maps.

    Returns:
        The figure: the image on the first axis, then one axis per map.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted, or the layer has no maps.
    """
    maps = layer_maps(model, image, layer)
    chosen = check_indices("map", indices, len(maps), first=10)
    count, height, width = maps.shape
    default = f"{layer}: {len(chosen)} of {count} maps, {height}×{width} pixels"
    tiles, size = len(chosen) + 1, (1.45, 1.75)
    figure, axes = new_tiles(tiles, columns=6, size=size, title=title, default=default)
    draw_image(axes[0], image)
    signed = bool((maps[chosen] < 0).any())
    for axis, index in zip(axes[1:], chosen, strict=True):
        draw_map(axis, maps[index], title=f"map {index}", signed=signed)
    return figure
