"""Filters above what they make of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_indices
from cifarzoo.viz._layers import find_layer, layer_maps
from cifarzoo.viz._tiles import draw_filter, draw_map, scale_note, sign_of
from cifarzoo.viz.activations import draw_image
from cifarzoo.viz.filters import require_conv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_filter_responses"]

COLUMNS = 5
FIRST = 5
TILE = 1.75  # inches


def plot_filter_responses(
    model: nn.Module,
    image: Tensor,
    layer: str,
    indices: Sequence[int] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draw filters of a convolution, each above the activation map that it makes of an image.

    Filters are drawn as `plot_filters` draws them, maps as `plot_activations` does. The model is
    left as it was found.

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: the convolution's name, as `named_modules` gives it; of an `ImageClassifier` the
            leading "network." may be left out.
        indices: the filters to draw; None draws the first five.
        title: above the figure; None says what is drawn.

    Returns:
        The figure: the image on the first axis, then for each index the filter's and the map's.

    Raises:
        OptionError: there is no such layer, it is not a convolution, or an index is not in
            0..out_channels-1.
        ShapeError: image is not (3,H,W).
        RangeError: image is neither uint8 nor float in [0, 1], or a map or filter is not finite.
    """
    conv = require_conv(f"layer {layer!r}", find_layer(model, layer))
    chosen = check_indices(indices, conv.out_channels, what="filter", first=FIRST)
    maps = layer_maps(model, image, layer)
    what = f"{layer}: filters and their maps ({scale_note(conv)})"
    sign = sign_of(maps[chosen])
    bands = math.ceil(len(chosen) / COLUMNS)
    columns = min(COLUMNS, len(chosen)) + 1
    figure = _style.new_figure(
        TILE * columns, (2 * TILE + 0.4) * bands + 0.4, title=what if title is None else title
    )
    grid = figure.add_gridspec(2 * bands, columns)
    draw_image(figure.add_subplot(grid[:2, 0]), image)
    for position, index in enumerate(chosen):
        row, column = 2 * (position // COLUMNS), 1 + position % COLUMNS
        kernel = conv.weight[index]
        draw_filter(figure.add_subplot(grid[row, column]), kernel, title=f"filter {index}")
        draw_map(
            figure.add_subplot(grid[row + 1, column]), maps[index], title=f"map {index}", sign=sign
        )
    return figure
