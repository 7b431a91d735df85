"""The filters of a convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_indices
from cifarzoo.viz._tiles import draw_filter, scale_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_filters"]

COLUMNS, FIRST = 8, 64  # of filters in colour
SHEET_COLUMNS, FIRST_SHEETS = 4, 16  # of filters drawn as a montage, which need room
WIDTH = 8.0  # inches


def plot_filters(
    conv: nn.Conv2d, indices: Sequence[int] | None = None, *, title: str | None = None
) -> Figure:
    """Draw the filters of a convolution.

    Filters that see three channels are drawn in colour; others as a montage of their channels, red
    where a weight is positive and blue where it is negative. Each is scaled to its own largest
    weight, so the strengths of two filters cannot be compared.

    Args:
        conv: the convolution.
        indices: the filters to draw; None draws the first 64, or 16 montages.
        title: above the figure; None says what is drawn.

    Returns:
        The figure, one axis per filter.

    Raises:
        OptionError: conv is not a convolution, or an index is not in 0..out_channels-1.
        RangeError: a weight is not finite.
    """
    require_conv("conv", conv)
    colour = conv.weight.shape[1] == 3
    first, most = (FIRST, COLUMNS) if colour else (FIRST_SHEETS, SHEET_COLUMNS)
    chosen = check_indices(indices, conv.out_channels, what="filter", first=first)
    columns = min(most, len(chosen))
    what = f"{len(chosen)} of {conv.out_channels} filters ({scale_note(conv)})"
    side = WIDTH / most
    height = (side + 0.15) * math.ceil(len(chosen) / columns) + 0.5
    figure = _style.new_figure(side * columns, height, title=what if title is None else title)
    axes = _style.tile_axes(figure, len(chosen), columns=columns)
    for axis, index in zip(axes, chosen, strict=True):
        draw_filter(axis, conv.weight[index], title=str(index))
    return figure


def require_conv(name: str, module: object) -> nn.Conv2d:
    """Refuse anything but a convolution of images; give it back.

    Raises:
        OptionError: module is not `torch.nn.Conv2d`.
    """
    if not isinstance(module, nn.Conv2d):
        raise OptionError(f"{name} is a {type(module).__name__}; needed is a torch.nn.Conv2d")
    return module
