"""Colours of the pictures on light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias

from cifarzoo.errors import InvalidValueError
from cifarzoo.validation import validate

ThemeName: TypeAlias = Literal["light", "dark"]

DIVERGING = "RdBu_r"  # blue below zero, white at zero, red above
SEQUENTIAL = "viridis"
MARKERS = ("o", "^", "s", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours for one background.

    They are based on Okabe and Ito's, which are distinct for any kind of colour vision, without
    their yellow, which is too faint for a line on white. https://jfly.uni-koeln.de/color/
    """

    blue: str  # correct results, or the first series; readable as text
    vermillion: str  # wrong results, or the second series; readable as text
    green: str
    others: tuple[str, ...]
    grey: str  # secondary elements; readable as text
    text: str
    background: str

    @property
    def series(self) -> tuple[str, ...]:
        """Colours of the series in a figure, in order."""
        return (self.blue, self.vermillion, self.green, *self.others, self.text)


LIGHT = Palette(
    blue="#0072B2",
    vermillion="#C25400",
    green="#009E73",
    others=("#CC79A7", "#E69F00", "#56B4E9"),
    grey="#6A6A6A",
    text="#000000",
    background="#FFFFFF",
)
DARK = Palette(
    blue="#4A9FE0",
    vermillion="#FF7F3F",
    green="#20B58A",
    others=("#E09BC4", "#F0C040", "#A8DCF8"),
    grey="#A0A4A8",
    text="#E8E8E8",
    background="#14171A",
)


@contextmanager
def theme(name: ThemeName) -> Iterator[None]:
    """Draw pictures on a light or a dark background within a `with` block.

    This sets matplotlib's `rcParams` and restores them. Pictures follow these settings whoever sets
    them, so `matplotlib.style.use("dark_background")` works as well.

    Args:
        name: "light" (black on white) or "dark" (light grey on nearly black).

    Raises:
        InvalidValueError: the name is unknown.

    Example:
        >>> with theme("dark"):
        ...     figure = plot_history(history)  # doctest: +SKIP
    """
    validate("theme", name, ThemeName)
    mpl = import_matplotlib()
    colours = DARK if name == "dark" else LIGHT
    text = ("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color")
    background = ("figure.facecolor", "savefig.facecolor", "axes.facecolor")
    settings: Any = dict.fromkeys((*text, "ytick.color"), colours.text)
    settings |= dict.fromkeys(background, colours.background) | {"grid.color": colours.grey}
    with mpl.rc_context(settings):
        yield


def import_matplotlib() -> ModuleType:
    """Import matplotlib, whose import fails if MPLBACKEND names no backend."""
    try:
        import matplotlib as mpl
    except ValueError as error:
        raise InvalidValueError(
            f"matplotlib cannot be imported, see MPLBACKEND: {error}"
        ) from error
    return mpl


def palette() -> Palette:
    """Return the colours for the background in matplotlib's settings.

    Light text implies a dark background, even if the background is transparent.
    """
    mpl = import_matplotlib()
    return DARK if luminance(mpl.rcParams["text.color"]) > 0.2 else LIGHT


def luminance(colour: object) -> float:
    """Return the relative luminance of a colour, from 0 (black) to 1 (white).

    Source: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    """
    from matplotlib.colors import to_rgb

    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))  # type: ignore[arg-type]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def series_style(position: int) -> tuple[str, str]:
    """Return the colour and marker of a series; markers change when colours repeat."""
    colours = palette().series
    rounds, index = divmod(position, len(colours))
    return colours[index], MARKERS[rounds % len(MARKERS)]
