from __future__ import annotations

from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from cifarzoo.viz import _style


def test_a_long_title_is_broken_into_lines_and_gets_room() -> None:
    short, long = (_style.new_figure(6, 4, title=text) for text in ("short", "many words " * 20))
    assert short.get_suptitle() == "short"
    assert "\n" in long.get_suptitle()
    assert long.get_figheight() > short.get_figheight()


def test_a_title_widens_a_figure_that_is_too_narrow_for_it() -> None:
    assert _style.new_figure(1, 1).get_figwidth() == 1
    assert _style.new_figure(1, 1, title="a title").get_figwidth() == _style.NARROWEST


def test_no_two_series_of_seven_look_alike_in_brightness_and_hue() -> None:
    colours = [to_rgb(_style.series_colour(i)) for i in range(7)]
    distances = [
        sum(abs(a - b) for a, b in zip(first, second, strict=True))
        for i, first in enumerate(colours)
        for second in colours[:i]
    ]
    assert min(distances) > 0.3


def test_28_series_differ_in_colour_or_marker() -> None:
    styles = {(_style.series_colour(i), _style.series_marker(i)) for i in range(28)}
    assert len(styles) == 28


def test_a_legend_takes_as_many_columns_as_fit() -> None:
    def columns(labels: list[str]) -> int:
        figure = _style.new_figure(6, 4)
        _style.legend_below(figure, [Line2D([], []) for _ in labels], labels)
        figure.draw_without_rendering()
        places = [text.get_window_extent().x0 for text in figure.legends[0].get_texts()]
        return len(set(places))

    assert columns(["a", "b", "c"]) == 3
    assert columns(["a" * 50, "b" * 50]) == 1
    assert columns(["a" * 30, "b", "c"]) == 3
    assert columns(["a" * 15] * 9) == 3


def test_tiles_fill_rows_from_the_left_and_leave_no_empty_axis() -> None:
    figure = _style.new_figure(4, 4)
    axes = _style.tile_axes(figure, 5, columns=3)
    assert figure.axes == axes
    figure.draw_without_rendering()
    rows = [round(axis.get_position().y0, 3) for axis in axes]
    assert rows[0] == rows[1] == rows[2] > rows[3] == rows[4]
