from __future__ import annotations

import itertools
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping

import matplotlib as mpl
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifarzoo import viz
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.record import History
from cifarzoo.viz.theme import DARK, LIGHT, luminance, palette, series_style

TEXT_CONTRAST, LINE_CONTRAST = 4.5, 3.0  # WCAG 2.2, level AA
DRAW = """
import sys, torch
from cifarzoo import viz
assert "matplotlib" not in sys.modules
viz.plot_images(torch.rand(2, 3, 8, 8)).draw_without_rendering()
viz.plot_filters(torch.nn.Conv2d(3, 2, 3)).draw_without_rendering()
viz.plot_confusion(torch.eye(3)).draw_without_rendering()
assert "matplotlib.pyplot" not in sys.modules
"""
Drawings = Mapping[str, Callable[..., Figure]]
DRAWN = sorted(name for name in viz.__all__ if name.startswith("plot_"))


def _contrast(one: object, two: object) -> float:
    low, high = sorted(luminance(each) for each in (one, two))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_and_lines_have_enough_contrast(name: viz.ThemeName, drawings: Drawings) -> None:
    with viz.theme(name):
        colours = palette()
        figures = [draw() for draw in drawings.values()]
    lines = [*colours.series, colours.grey]
    weak = [each for each in lines if _contrast(each, colours.background) < LINE_CONTRAST]
    # Orange, sky blue and purple are too light on white; markers help to tell them apart.
    assert len(weak) <= (3 if name == "light" else 0), weak
    for figure in figures:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            over_image = text.axes is not None and bool(text.axes.images)
            if text.get_text() and not over_image:
                contrast = _contrast(text.get_color(), figure.get_facecolor())
                assert contrast >= TEXT_CONTRAST, (text.get_text(), text.get_color())


def test_the_colours_of_series_are_distinct() -> None:
    colours = [to_rgb(series_style(i)[0]) for i in range(7)]
    for one, two in itertools.combinations(colours, 2):
        assert sum(abs(a - b) for a, b in zip(one, two, strict=True)) > 0.3
    assert len({series_style(i) for i in range(28)}) == 28


@pytest.mark.parametrize("name", DRAWN)
def test_every_picture_fits_with_a_title_of_any_length(
    name: str, drawings: Drawings, assert_fits: Callable[[Figure], None]
) -> None:
    for title in (None, "my title", "filters above their activations " * 6):
        figure = drawings[name](title=title)
        assert_fits(figure)
        assert title is None or figure.get_suptitle().split() == title.split()
    with pytest.raises(InvalidTypeError, match="title is 5"):
        drawings[name](title=5)


def test_settings_and_random_state_are_not_changed(drawings: Drawings) -> None:
    settings, random = dict(mpl.rcParams), torch.get_rng_state()
    with viz.theme("dark"):
        for draw in drawings.values():
            figure = draw()
    assert dict(mpl.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), random)
    assert luminance(figure.get_facecolor()) < 0.02


def test_the_text_colour_of_a_matplotlib_style_selects_the_palette() -> None:
    assert palette() is LIGHT
    with mpl.rc_context({"text.color": "white", "figure.facecolor": "none"}):
        assert palette() is DARK


def test_an_unknown_theme_is_an_error() -> None:
    with pytest.raises(InvalidValueError, match="did you mean 'dark'"), viz.theme("drak"):  # type: ignore[arg-type]
        pass


def test_neither_importing_nor_drawing_loads_pyplot() -> None:
    command = [sys.executable, "-W", "error", "-c", DRAW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["a$b$c", "cost $\\frac{", "_^{$", "50$ and 60$"])
def test_texts_are_not_formulas(text: str, make_history: Callable[..., History]) -> None:
    names, images, scores = [text, "b"], torch.rand(2, 3, 8, 8), torch.eye(2)
    points = [viz.ModelPoint(name=text, size=1e5, accuracy=0.9, source="others")]
    figures = [
        viz.plot_confusion(torch.eye(2), names, title=text),
        viz.plot_per_class(torch.eye(2), names),
        viz.plot_predictions(images, torch.tensor([0, 1]), scores, names),
        viz.plot_histories({text: make_history()}),
        viz.plot_sizes(points),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        texts = [each for each in figure.findobj(Text) if text in each.get_text()]
        assert texts
        assert not any(each.get_parse_math() for each in texts)
    (axis,) = figures[-1].axes  # its powers of ten are formulas
    assert all(label.get_parse_math() for label in axis.get_xticklabels(which="both"))


def test_a_figure_has_a_png_for_notebooks(drawings: Drawings) -> None:
    figure = pickle.loads(pickle.dumps(drawings["plot_images"]()))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_mplbackend_is_a_clear_error() -> None:
    command = [sys.executable, "-c", DRAW]
    environment = {**os.environ, "MPLBACKEND": "nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert re.search("InvalidValueError: .*MPLBACKEND.*nonsense", done.stderr)
