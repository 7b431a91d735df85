"""What every picture shares: colours, fonts, and figures that belong to nobody's global state."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cifarzoo.errors import wrong_kind

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

__all__ = ["DIVERGING", "PIXELS", "SEQUENTIAL", "Palette", "palette"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours that suit one background.

    They are Okabe and Ito's, which all kinds of colour vision tell apart, without their yellow (too
    faint for a line on white). https://jfly.uni-koeln.de/color/

    Attributes:
        blue: what is right, or the first of several; readable as text.
        vermillion: what is wrong, or the second; readable as text.
        grey: what is less important; readable as text.
        more: further colours of lines, in their order.
        ink: of text.
        paper: the background.
    """

    blue: str
    vermillion: str
    grey: str
    more: tuple[str, ...]
    ink: str
    paper: str

    @property
    def series(self) -> tuple[str, ...]:
        """Colours of the first, second, ... thing in a figure."""
        return (self.blue, self.vermillion, *self.more, self.ink)


LIGHT = Palette(
    blue="#0072B2",
    vermillion="#C25400",
    grey="#6A6A6A",
    more=("#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    ink="#000000",
    paper="#FFFFFF",
)
DARK = Palette(
    blue="#4A9FE0",
    vermillion="#FF7F3F",
    grey="#A0A4A8",
    more=("#20B58A", "#E09BC4", "#F0C040", "#A8DCF8"),
    ink="#E8E8E8",
    paper="#14171A",
)
MARKERS = ("o", "^", "s", "X")
# matplotlib's name for: exact squares where pixels are drawn large, no moiré where they are not.
PIXELS = "antialiased"
DIVERGING = "RdBu_r"  # blue under zero, white, red over it
SEQUENTIAL = "viridis"

SMALL, NORMAL, LARGE = 8, 9, 11  # points
NARROWEST = 6.0  # inches, of a figure with a title
TITLE_CHARACTERS_PER_INCH = 12  # of ordinary text, with a margin
TITLE_LINE, LEGEND_ROW = 0.2, 0.2  # inches
LEGEND_HANDLE = 0.6  # inches, of the line before each text, with the space around it


def palette() -> Palette:
    """Give the colours that suit the background which matplotlib's settings ask for."""
    return DARK if is_dark() else LIGHT


def is_dark() -> bool:
    """Tell whether new figures have a dark background: a light ink does, also on a clear one."""
    import matplotlib as mpl

    return luminance(mpl.rcParams["text.color"]) > 0.2


def luminance(colour: object) -> float:
    """Relative luminance of a colour, 0 for black to 1 for white.

    Source: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    """
    from matplotlib.colors import to_rgb

    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))  # type: ignore[arg-type]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def ink_on(colour: object) -> str:
    """Black or white, whichever is read better on a colour."""
    return "black" if luminance(colour) > 0.18 else "white"


def new_figure(width: float, height: float, *, title: str | None = None) -> Figure:
    """Make an empty figure, by hand: pyplot would keep it alive and may look for a display.

    Args:
        width: in inches; a title makes it at least 6.
        height: in inches.
        title: above everything; broken into lines where it is too long, which adds to the height.
    """
    from matplotlib.figure import Figure

    if not isinstance(title, str | None):
        raise wrong_kind("title", title, "text, or None")
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
    dress_ticks(axis)
    axis.grid(visible=True, color=palette().grey, alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def dress_ticks(axis: Axes) -> None:
    """Make the ticks' labels small, now and for those that matplotlib adds when it draws."""
    axis.tick_params(which="both", labelsize=SMALL, colors=palette().ink)


def dress_bar(bar: Colorbar, label: str) -> None:
    """Say what a colour bar's values are."""
    bar.set_label(label, fontsize=NORMAL)
    dress_ticks(bar.ax)


def undress(axis: Axes) -> None:
    """Take the ticks off a picture; its frame stays."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color(palette().grey)


def dress_run(axis: Axes, *, y: str) -> None:
    """Label the axes of a curve over training steps, whole numbers with a comma."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    dress(axis, x="training step", y=y)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def series_colour(position: int) -> str:
    """The colour of the n-th thing in a figure; the eighth begins anew, with another marker."""
    series = palette().series
    return series[position % len(series)]


def series_marker(position: int) -> str:
    """The marker of the n-th thing in a figure, which tells apart those of one colour."""
    return MARKERS[position // len(palette().series) % len(MARKERS)]


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
