"""Figures, axes and legends in the style of all pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial, wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, ParamSpec

from cifarzoo.validation import validate
from cifarzoo.viz.theme import import_matplotlib, palette

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

P = ParamSpec("P")

SMALL, NORMAL, LARGE = 8, 9, 11  # points
MIN_TITLED_WIDTH = 6.0  # inches
TITLE_CHARACTERS_PER_INCH = 12
LINE_HEIGHT = 0.2  # inches; also the space around a title


def picture(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that returns a figure: its texts are never parsed as formulas."""

    @wraps(draw)
    def draw_plain_text(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with import_matplotlib().rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return draw_plain_text


def new_figure(width: float, height: float, title: str | None, default: str = "") -> Figure:
    """Return an empty figure of a size in inches, without the height of the title.

    If the title is None, it is `default`; if it is empty, there is none. A title widens a narrow
    figure. pyplot is not used: it would keep the figure in memory and might look for a display.
    """
    from matplotlib.figure import Figure

    validate("title", title, str | None)
    title = default if title is None else title
    width = max(width, MIN_TITLED_WIDTH if title else 0)
    lines = textwrap.wrap(title, int(TITLE_CHARACTERS_PER_INCH * width))
    height += LINE_HEIGHT * (len(lines) + 1) if lines else 0
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=LARGE)
    # Notebooks show figures that pyplot did not make only if `%matplotlib inline` has run. Its
    # formatter for figures replaces this method, so that a figure is shown once.
    figure._repr_png_ = partial(_to_png, figure)  # type: ignore[attr-defined]
    return figure


def _to_png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def new_tiles(
    count: int, *, columns: int, size: tuple[float, float], title: str | None, default: str = ""
) -> tuple[Figure, list[Axes]]:
    """Return a figure with rows of at most `columns` axes, each of `size` inches."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = new_figure(size[0] * columns, size[1] * rows, title, default)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def show_pixels(
    axis: Axes,
    pixels: Any,  # noqa: ANN401 - whatever imshow takes
    *,
    above: str = "",
    below: str = "",
    **colours: Any,  # noqa: ANN401
) -> AxesImage:
    """Draw an image or a map without ticks, with small text above and below it."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_linewidth(0.5)
    axis.spines[:].set_color(palette().grey)
    axis.set_title(above, fontsize=SMALL, pad=3)
    axis.set_xlabel(below, fontsize=SMALL, labelpad=2)
    # "antialiased" draws enlarged pixels as exact squares, and reduced images without moiré.
    return axis.imshow(pixels, interpolation="antialiased", **colours)


def style_axes(axis: Axes, *, x: str, y: str) -> None:
    """Label both axes, with a faint grid and without the upper and the right spine."""
    axis.set_xlabel(x, fontsize=NORMAL)
    axis.set_ylabel(y, fontsize=NORMAL)
    _style_ticks(axis)
    axis.grid(visible=True, color=palette().grey, alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def style_step_axes(axis: Axes, *, y: str) -> None:
    """Label the axes of a curve over training steps."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    style_axes(axis, x="training step", y=y)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def add_colorbar(
    figure: Figure,
    colours: ScalarMappable,
    axes: Any,  # noqa: ANN401 - one axis or an array of them
    label: str,
    *,
    shrink: float = 0.8,
) -> None:
    """Draw a colour bar to the right of one or several axes."""
    bar = figure.colorbar(colours, ax=axes, shrink=shrink, pad=0.02)
    bar.set_label(label, fontsize=NORMAL)
    _style_ticks(bar.ax)


def _style_ticks(axis: Axes) -> None:
    # Colours are set here because matplotlib adds ticks when it draws, perhaps after `theme` ended.
    axis.tick_params(which="both", labelsize=SMALL, colors=palette().text)


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Draw a legend below the axes in as many columns as fit; add height if needed."""
    style: Any = {"loc": "outside lower center", "fontsize": NORMAL, "frameon": False}
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(handles, labels, ncols=columns, **style)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * max(0, rows - 2))
