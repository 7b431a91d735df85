"""Light and dark pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

from cifarzoo.errors import one_of
from cifarzoo.viz import _style

__all__ = ["ThemeName", "theme"]

ThemeName: TypeAlias = Literal["light", "dark"]


@contextmanager
def theme(name: ThemeName) -> Iterator[None]:
    """Draw pictures on a light or on a dark background, in the block.

    It sets matplotlib's own settings (`rcParams`) and puts them back. Pictures follow those
    settings however they were set, so `matplotlib.style.use("dark_background")` works as well.

    Args:
        name: "light" (black on white) or "dark" (light grey on nearly black).

    Raises:
        OptionError: the name is neither.

    Example:
        >>> with theme("dark"):
        ...     figure = plot_history(history)  # doctest: +SKIP
    """
    if name not in get_args(ThemeName):
        raise one_of("theme", name, get_args(ThemeName))
    import matplotlib as mpl

    colours = _style.DARK if name == "dark" else _style.LIGHT
    ink, paper = colours.ink, colours.paper
    with mpl.rc_context(
        {
            "text.color": ink,
            "axes.labelcolor": ink,
            "axes.titlecolor": ink,
            "axes.edgecolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "grid.color": colours.grey,
            "figure.facecolor": paper,
            "savefig.facecolor": paper,
            "axes.facecolor": paper,
        }
    ):
        yield
