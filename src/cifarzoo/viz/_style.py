"""What every picture shares: colours, fonts, and figures that belong to nobody's global state."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
MARKERS = ("o", "^", "s", "X")
GREY = "#6E6E6E"
# matplotlib's name for: exact squares where pixels are drawn large, no moiré where they are not.
PIXELS = "antialiased"
DIVERGING = "RdBu_r"  # blue under zero, white, red over it
SEQUENTIAL = "viridis"

SMALL, NORMAL, LARGE = 8, 9, 11  # points
NARROWEST = 6.0  # inches, of a figure with a title
TITLE_CHARACTERS_PER_INCH = 12  # of ordinary text, with a margin
TITLE_LINE, LEGEND_ROW = 0.2, 0.2  # inches
LEGEND_HANDLE = 0.6  # inches, of the line before each text, with the space around it


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
    """The colour of the n-th thing in a figure; the eighth begins anew, with another marker."""
    return SERIES[position % len(SERIES)]


def series_marker(position: int) -> str:
    """The marker of the n-th thing in a figure, which tells apart those of one colour."""
    return MARKERS[position // len(SERIES) % len(MARKERS)]


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Write a legend below the axes, where it can hide nothing, in as many columns as fit.

    The figure grows where more than two rows are needed.
    """
    widths = [text_width(label, NORMAL) + LEGEND_HANDLE for label in labels]
    counts = range(len(labels), 1, -1)
    columns = next((n for n in counts if _legend_width(widths, n) <= figure.get_figwidth()), 1)
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows - 2))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize=NORMAL,
        frameon=False,
    )


def _legend_width(widths: Sequence[float], columns: int) -> float:
    """Inches that a legend takes; matplotlib splits its entries into columns in this way."""
    return sum(float(stack.max()) for stack in np.array_split(widths, columns))


def text_width(text: str, points: float) -> float:
    """Inches that a line of text takes in the font that is set."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=points).get_extents().width) / 72


def tile_axes(figure: Figure, count: int, *, columns: int) -> list[Axes]:
    """Give `count` axes without ticks, in rows of at most `columns`, filled from the left."""
    columns = min(count, columns)
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count]:
        undress(axis)
    return list(axes[:count])
