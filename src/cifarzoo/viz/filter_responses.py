"""Filters with their activation maps for an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.viz._figure import new_figure, picture
from cifarzoo.viz._inputs import check_conv, check_indices
from cifarzoo.viz._layers import full_name, layer_maps
from cifarzoo.viz._tiles import draw_filter, draw_image, draw_map, scale_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 5
TILE = 1.75  # inches


@picture
def plot_filter_responses(
    model: nn.Module,
    image: Tensor,
    layer: str,
    indices: Sequence[int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw filters of a convolution, each above its activation map for an image.

    They are drawn as in `plot_filters` and `plot_activations`. The model is not changed.

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: name of a convolution in `named_modules`; a leading "network." may be omitted.
        indices: the filters to draw; by default the first five.
        title: figure title; by default the layer and the meaning of the colours.

    Returns:
        The figure: the image on the first axis, then filter and map of each index.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    conv = check_conv(f"layer {layer!r}", model.get_submodule(full_name(model, layer)))
    chosen = check_indices("filter", indices, conv.out_channels, first=COLUMNS)
    maps = layer_maps(model, image, layer)
    signed = bool((maps[chosen] < 0).any())
    bands = math.ceil(len(chosen) / COLUMNS)
    columns = min(COLUMNS, len(chosen)) + 1
    default = f"{layer}: filters and their maps ({scale_note(conv)})"
    figure = new_figure(TILE * columns, (2 * TILE + 0.4) * bands, title, default)
    grid = figure.add_gridspec(2 * bands, columns)
    draw_image(figure.add_subplot(grid[:2, 0]), image)
    for i, index in enumerate(chosen):
        row, column = 2 * (i // COLUMNS), 1 + i % COLUMNS
        upper, lower = (figure.add_subplot(grid[row + j, column]) for j in (0, 1))
        draw_filter(upper, conv.weight[index], title=f"filter {index}")
        draw_map(lower, maps[index], title=f"map {index}", signed=signed)
    return figure
