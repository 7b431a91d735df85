from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib as mpl
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifarzoo import viz
from cifarzoo.errors import OptionError
from cifarzoo.viz import _style

READABLE = 4.5  # contrast of text to its background: WCAG 2.2, level AA
VISIBLE = 3.0  # contrast of lines


def _contrast(one: object, two: object) -> float:
    low, high = sorted(_style.luminance(each) for each in (one, two))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_and_lines_stand_out(
    name: viz.ThemeName, drawings: Mapping[str, Callable[[], Figure]]
) -> None:
    with viz.theme(name):
        colours = _style.palette()
        lines = [*colours.series[:-1], colours.ink, colours.grey]
        figures = [draw() for draw in drawings.values()]
    # Orange, sky and purple are lighter than they should be on white; a marker tells them apart.
    weak = [colour for colour in lines if _contrast(colour, colours.paper) < VISIBLE]
    assert len(weak) <= (3 if name == "light" else 0), weak
    for figure in figures:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            over_something = text.axes is not None and bool(text.axes.images)
            if text.get_text() and not over_something:
                seen = _contrast(text.get_color(), figure.get_facecolor())
                assert seen >= READABLE, (text.get_text(), text.get_color())


def test_a_theme_is_put_back() -> None:
    before = dict(mpl.rcParams)
    with viz.theme("dark"):
        assert _style.is_dark()
        figure = viz.plot_images(torch.rand(1, 3, 4, 4))
    assert dict(mpl.rcParams) == before
    assert not _style.is_dark()
    assert _style.luminance(figure.get_facecolor()) < 0.02


def test_the_users_own_style_is_followed() -> None:
    with mpl.rc_context({"text.color": "white", "figure.facecolor": "none"}):
        assert _style.palette() is _style.DARK


def test_an_unknown_theme_is_refused() -> None:
    with (
        pytest.raises(OptionError, match="unknown theme 'drak'; did you mean 'dark'"),
        viz.theme("drak"),  # type: ignore[arg-type]
    ):
        pass
