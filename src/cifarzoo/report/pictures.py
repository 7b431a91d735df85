"""Figures as images that a page holds in itself: for wide and narrow screens, light and dark."""

from __future__ import annotations

import base64
import io
import re
import struct
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "curves_picture", "framed_picture", "png_of", "source_of", "stored_picture"]

NARROW_WIDTH = 4.4  # inches: on a phone, letters are then about as large as the text
PANEL_HEIGHT = 3.0  # inches, of one panel of a narrow figure
LEGEND_LETTERS = 54  # as many as a narrow figure holds in a line
PNG_DPI = 120
CSS_DPI = 96
# An SVG in an <img> is told the page's colour scheme, but none of its colours. On a dark ground
# black turns light, and the darker ones of viz's colours turn lighter.
_ON_DARK = {
    "#000000": "#e4e4e4",
    "#6e6e6e": "#9a9a9a",
    "#0072b2": "#4ba3dd",
    "#d55e00": "#f0823a",
    "#009e73": "#2bbf95",
}
_UNDATED = {"Date": None, "Creator": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image in a page.

    Attributes:
        wide: data URI.
        narrow: data URI of another drawing for narrow screens; None where there is only one.
        width: of the wide one, in CSS pixels.
        height: likewise.
        alt: what there is to see, for those who cannot.
        caption: below it.
    """

    wide: str
    narrow: str | None
    width: int
    height: int
    alt: str
    caption: str


def curves_picture(figure: Figure, *, alt: str, caption: str) -> Picture:
    """Take curves twice, panels side by side and one above the other, in the page's colours.

    Args:
        figure: of panels that stand side by side; rearranged.
        alt: what there is to see.
        caption: below it.
    """
    width, height = (round(CSS_DPI * inches) for inches in figure.get_size_inches())
    wide = _svg_uri(figure)
    _stack(figure)
    return Picture(
        wide=wide, narrow=_svg_uri(figure), width=width, height=height, alt=alt, caption=caption
    )


def framed_picture(figure: Figure, *, alt: str, caption: str) -> Picture:
    """Take a figure as it is, on its own white ground: its colours mean something."""
    return _from_png(png_of(figure), alt=alt, caption=caption)


def png_of(figure: Figure, *, source: str | None = None) -> bytes:
    """Give a figure as a PNG file's content.

    Args:
        figure: to draw.
        source: what it was drawn from; kept in the file, for `source_of`.
    """
    buffer = io.BytesIO()
    metadata = {"Software": None, "Source": source}
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def source_of(path: Path) -> str | None:
    """Say what a PNG file was drawn from; None if it does not tell, or cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            source: object = image.info.get("Source")
    except OSError:  # also what is not an image
        return None
    return source if isinstance(source, str) else None


def stored_picture(path: Path, *, alt: str, caption: str) -> Picture:
    """Take a PNG file."""
    return _from_png(path.read_bytes(), alt=alt, caption=caption)


def _from_png(png: bytes, *, alt: str, caption: str) -> Picture:
    width, height = struct.unpack(">II", png[16:24])  # where a PNG's header has them
    return Picture(
        wide=f"data:image/png;base64,{base64.b64encode(png).decode()}",
        narrow=None,
        width=round(width * CSS_DPI / PNG_DPI),
        height=round(height * CSS_DPI / PNG_DPI),
        alt=alt,
        caption=caption,
    )


def _stack(figure: Figure) -> None:
    """Put a figure's panels below one another, and its legend into as many columns as fit."""
    from matplotlib.gridspec import GridSpec

    from cifarzoo.viz._style import legend_below

    panels = figure.axes
    grid = GridSpec(len(panels), 1, figure=figure)
    for i, axis in enumerate(panels):
        axis.set_subplotspec(grid[i])
    figure.set_size_inches(NARROW_WIDTH, PANEL_HEIGHT * len(panels))
    for legend in list(figure.legends):
        handles = [handle for handle in legend.legend_handles if handle is not None]
        labels = [textwrap.fill(text.get_text(), LEGEND_LETTERS) for text in legend.get_texts()]
        legend_below(figure, handles, labels)
        legend.remove()


def _svg_uri(figure: Figure) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cifarzoo"}):  # the same figure gives the same bytes
        figure.savefig(buffer, format="svg", transparent=True, metadata=_UNDATED)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # what is before it, only a file needs
    inside = svg.index(">") + 1
    dressed = svg[:inside] + _style_sheet() + _in_page_colours(svg[inside:])
    return f"data:image/svg+xml;base64,{base64.b64encode(dressed.encode()).decode()}"


def _style_sheet() -> str:
    light = "".join(f"--c{i}:{colour};" for i, colour in enumerate(_ON_DARK))
    dark = "".join(f"--c{i}:{colour};" for i, colour in enumerate(_ON_DARK.values()))
    return f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"


def _in_page_colours(svg: str) -> str:
    """Name the colours by what they are on the ground that the page has."""
    for i, colour in enumerate(_ON_DARK):
        svg = svg.replace(colour, f"var(--c{i})")
    # Text names no colour where it is black.
    return re.sub(r'<g id="(text|legend)_', r'<g style="fill: var(--c0)" id="\1_', svg)
