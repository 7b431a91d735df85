from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarzoo.training.history import History
from cifarzoo.viz import plot_histories

Make = Callable[..., History]


def test_before_and_after(make_history: Make, assert_fits: Callable[[Figure], None]) -> None:
    before, after = make_history(shift=0.5), make_history()
    figure = plot_histories({"before": before, "after": after}, title="a change")
    loss, accuracy = figure.axes
    assert accuracy.get_ylabel() == "validation accuracy (%)"
    assert [line.get_linestyle() for line in loss.get_lines()] == ["--", "-", "--", "-"]
    drawn = [line.get_ydata() for line in loss.get_lines()]
    np.testing.assert_array_equal(drawn[0], [c.train_loss for c in before.checks])
    np.testing.assert_array_equal(drawn[3], [c.val_loss for c in after.checks])
    colours = [line.get_color() for line in loss.get_lines()]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_color() for line in accuracy.get_lines()] == colours[1:3]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["before", "after", "validation", "training"]
    assert_fits(figure)


def test_several_seeds_get_a_band(
    make_history: Make, assert_fits: Callable[[Figure], None]
) -> None:
    seeds = [make_history(4, shift=shift) for shift in (0.0, 0.1, 0.2)]
    figure = plot_histories({"one": make_history(), "three": seeds})
    loss, accuracy = figure.axes
    assert len(loss.collections) == 2
    assert len(accuracy.collections) == 1
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["one", "three (3 runs)", "validation", "training", "± standard deviation"]
    assert_fits(figure)


@pytest.mark.parametrize("count", [1, 5, 7, 10])
@pytest.mark.parametrize("length", [1, 15, 30, 50])
def test_labels_of_any_length_fit(
    make_history: Make, assert_fits: Callable[[Figure], None], count: int, length: int
) -> None:
    run = make_history(2)
    assert_fits(plot_histories({f"{i}{'m' * length}": run for i in range(count)}))
