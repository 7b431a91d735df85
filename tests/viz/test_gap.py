from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarzoo.errors import OptionError
from cifarzoo.training.history import History
from cifarzoo.viz import plot_gap

Make = Callable[..., History]


def test_draws_the_difference(make_history: Make, assert_fits: Callable[[Figure], None]) -> None:
    run = make_history()
    figure = plot_gap(run)
    (axis,) = figure.axes
    zero, gap = axis.get_lines()
    np.testing.assert_array_equal(zero.get_ydata(), [0, 0])
    expected = [(c.val_loss or 0) - c.train_loss for c in run.checks]
    np.testing.assert_array_equal(gap.get_ydata(), expected)
    assert axis.get_ylabel() == "validation loss − training loss (nats)"
    assert not figure.legends
    assert_fits(figure)


def test_several(make_history: Make, assert_fits: Callable[[Figure], None]) -> None:
    seeds = [make_history(4), make_history(6)]
    assert len(plot_gap(seeds).axes[0].collections) == 1
    figure = plot_gap({"a": seeds, "b": make_history()})
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["a (2 runs)", "b", "± standard deviation (thin: single runs)"]
    assert_fits(figure)


def test_a_run_without_validation(make_history: Make) -> None:
    with pytest.raises(OptionError, match="'a' holds a check without validation loss"):
        plot_gap({"a": make_history(validation=False)})
