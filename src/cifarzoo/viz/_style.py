"""What every picture shares: colours, fonts, and figures that belong to nobody's global state."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "DIVERGING", "GREY", "PIXELS", "SEQUENTIAL", "SERIES", "VERMILLION"]

# Okabe and Ito's palette, which all kinds of colour vision tell apart, without its yellow (too
# faint for a line). https://jfly.uni-koeln.de/color/
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY = "#6E6E6E"
# matplotlib's name for: exact squares where pixels are drawn large, no moiré where they are not.
PIXELS = "antialiased"
DIVERGING = "RdBu_r"  # blue under zero, white, red over it
SEQUENTIAL = "viridis"

SMALL, NORMAL, LARGE = 8, 9, 11  # points
NARROWEST = 6.0  # inches, of a figure with a title
TITLE_CHARACTERS_PER_INCH, LEGEND_CHARACTERS_PER_INCH = 12, 14.5  # as wide as they get
TITLE_LINE = 0.2  # inches


def new_figure(width: float, height: float, *, title: str | None = None) -> Figure:
    """Make an empty figure, by hand: pyplot would keep it alive and may look for a display.

    Args:
        width: in inches; a title makes it at least 6.
        height: in inches.
        title: above everything; broken into lines where it is too long, which adds to the height.
    """
    from matplotlib.figure import Figure

    width = max(width, NARROWEST if title else 0)
    lines = textwrap.wrap(title or "", int(TITLE_CHARACTERS_PER_INCH * width))
    height += TITLE_LINE * max(0, len(lines) - 1)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=LARGE)
    return figure


def dress(axis: Axes, *, x: str, y: str) -> None:
    """Label the axes of a curve and quieten its frame."""
    axis.set_xlabel(x, fontsize=NORMAL)
    axis.set_ylabel(y, fontsize=NORMAL)
    axis.tick_params(labelsize=SMALL)
    axis.grid(visible=True, alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def undress(axis: Axes) -> None:
    """Take the ticks off a picture; its frame stays."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color(GREY)


def dress_run(axis: Axes, *, y: str) -> None:
    """Label the axes of a curve over training steps, whole numbers with a comma."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    dress(axis, x="training step", y=y)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def series_colour(position: int) -> str:
    """The colour of the n-th thing in a figure; the eighth begins anew."""
    return SERIES[position % len(SERIES)]


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Write a legend below the axes, where it can hide nothing, in as many columns as fit."""
    counts = range(len(labels), 1, -1)
    fitting = (n for n in counts if _legend_width(labels, n) <= figure.get_figwidth())
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=next(fitting, 1),
        fontsize=NORMAL,
        frameon=False,
    )


def _legend_width(labels: Sequence[str], columns: int) -> float:
    """Inches that a legend takes, which fills its columns from the top."""
    rows = math.ceil(len(labels) / columns)
    stacks = [labels[i : i + rows] for i in range(0, len(labels), rows)]
    line = 0.6  # the line before each text, with the space around it
    return sum(max(map(len, stack)) / LEGEND_CHARACTERS_PER_INCH + line for stack in stacks)


def tile_axes(figure: Figure, count: int, *, columns: int) -> list[Axes]:
    """Give `count` axes without ticks, in rows of at most `columns`, filled from the left."""
    columns = min(count, columns)
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count]:
        undress(axis)
    return list(axes[:count])
