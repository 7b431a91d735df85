from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarzoo.errors import OptionError
from cifarzoo.training.history import History
from cifarzoo.viz import plot_history

Make = Callable[..., History]


def test_draws_the_checks(make_history: Make, assert_fits: Callable[[Figure], None]) -> None:
    run = make_history(6)
    figure = plot_history(run)
    loss, accuracy = figure.axes
    assert loss.get_xlabel() == accuracy.get_xlabel() == "training step"
    assert loss.get_ylabel() == "loss (cross-entropy, nats)"
    assert accuracy.get_ylabel() == "accuracy (%)"
    train, val, _ = loss.get_lines()
    np.testing.assert_array_equal(train.get_xdata(), [c.step for c in run.checks])
    np.testing.assert_array_equal(train.get_ydata(), [c.train_loss for c in run.checks])
    np.testing.assert_array_equal(val.get_ydata(), [c.val_loss for c in run.checks])
    assert (train.get_linestyle(), val.get_linestyle()) == ("--", "-")
    train, val, _ = accuracy.get_lines()
    percents = [100 * c.train_accuracy for c in run.checks]
    np.testing.assert_array_equal(train.get_ydata(), percents)
    assert_fits(figure)


def test_marks_the_check_that_was_kept(make_history: Make) -> None:
    run = make_history()
    figure = plot_history(run)
    for axis in figure.axes:
        np.testing.assert_array_equal(axis.get_lines()[-1].get_xdata(), [run.best_step] * 2)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["training", "validation"]
    assert texts[2].startswith(f"kept: step {run.best_step}, epoch ")


@pytest.mark.parametrize(
    ("stopped", "words"),
    [
        ("epochs", "all epochs done"),
        ("early", "stopped early"),
        ("interrupted", "interrupted"),
        ("diverged", "not finite"),
    ],
)
def test_the_title_says_how_the_run_ended(make_history: Make, stopped: str, words: str) -> None:
    assert words in plot_history(make_history(stopped=stopped)).get_suptitle()
    assert plot_history(make_history(), title="mine").get_suptitle() == "mine"


@pytest.mark.parametrize("checks", [1, 200])
def test_a_run_without_validation(
    make_history: Make, assert_fits: Callable[[Figure], None], checks: int
) -> None:
    figure = plot_history(make_history(checks, validation=False, last_loss=float("nan")))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "validation" not in texts
    assert_fits(figure)


def test_what_cannot_be_drawn(make_history: Make) -> None:
    with pytest.raises(OptionError, match="before its first check"):
        plot_history(make_history(0))
    with pytest.raises(OptionError, match="holds a list"):
        plot_history([make_history()])  # type: ignore[arg-type]
