"""The filters of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from cifarzoo.viz._figure import new_tiles, picture
from cifarzoo.viz._inputs import check_conv, check_indices
from cifarzoo.viz._tiles import draw_filter, scale_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 8.0  # inches


@picture
def plot_filters(
    conv: nn.Conv2d, indices: Sequence[int] | None = None, *, title: str | None = None
) -> Figure:
    """Draw the filters of a convolution.

    Filters with three input channels are drawn in colour, others as a montage of their channels,
    where positive weights are red and negative ones blue. Each filter is scaled by its largest
    weight, so magnitudes cannot be compared between filters.

    Args:
        conv: the convolution.
        indices: the filters to draw; by default the first 64, or 16 montages.
        title: figure title; by default the number of filters and the meaning of the colours.

    Returns:
        The figure, one axis per filter.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted, or a weight is not finite.
    """
    check_conv("conv", conv)
    colour = conv.weight.shape[1] == 3
    columns, first = (8, 64) if colour else (4, 16)
    chosen = check_indices("filter", indices, conv.out_channels, first=first)
    default = f"{len(chosen)} of {conv.out_channels} filters ({scale_note(conv)})"
    size = (WIDTH / columns, WIDTH / columns + 0.15)
    figure, axes = new_tiles(len(chosen), columns=columns, size=size, title=title, default=default)
    for axis, index in zip(axes, chosen, strict=True):
        draw_filter(axis, conv.weight[index], title=str(index))
    return figure
