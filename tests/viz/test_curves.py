from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.record import History, RunRecord
from cifarzoo.viz import plot_gap, plot_histories, plot_history
from cifarzoo.viz._curves import draw_runs

Make = Callable[..., History]


def _lines(axis: Axes) -> list[tuple[Any, Any]]:
    return [(np.asarray(x.get_xdata()), np.asarray(x.get_ydata())) for x in axis.get_lines()]


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_several_runs_are_their_mean_and_standard_deviation(make_history: Make) -> None:
    shifts = [0.0, 0.3, 1.2]
    axis = Figure().subplots()
    runs = [make_history(4, shift=shift) for shift in shifts]
    draw_runs(axis, runs, lambda check: check.train_loss, series=0)
    ((steps, mean),) = _lines(axis)
    np.testing.assert_array_equal(steps, [100, 200, 300, 400])
    plain = np.array([check.train_loss for check in make_history(4).checks])
    np.testing.assert_allclose(mean, plain + np.mean(shifts))
    (band,) = axis.collections
    corners, std = np.asarray(band.get_paths()[0].vertices), np.std(shifts, ddof=1)
    for edge in (mean - std, mean + std):
        for corner in zip(steps, edge, strict=True):
            assert np.isclose(corners, corner).all(1).any()


def test_the_mean_ends_with_the_shortest_run(make_history: Make) -> None:
    axis = Figure().subplots()
    runs = [make_history(3), make_history(5, shift=1.0)]
    draw_runs(axis, runs, lambda check: check.train_loss, series=0)
    mean, tail = _lines(axis)
    np.testing.assert_array_equal(mean[0], [100, 200, 300])
    np.testing.assert_array_equal(tail[0], [300, 400, 500])
    np.testing.assert_array_equal(tail[1], [check.train_loss for check in runs[1].checks[2:]])


def test_an_infinite_loss_leaves_a_gap(make_history: Make) -> None:
    (loss, _) = plot_history(make_history(3, last_loss=float("inf"))).axes
    assert np.isfinite(_lines(loss)[0][1]).tolist() == [True, True, False]


def test_history_shows_every_check_and_marks_the_kept_one(make_history: Make) -> None:
    run = make_history(6)
    figure = plot_history(run)
    loss, accuracy = figure.axes
    train, val, kept = _lines(loss)
    np.testing.assert_array_equal(train[0], [check.step for check in run.checks])
    np.testing.assert_array_equal(train[1], [check.train_loss for check in run.checks])
    np.testing.assert_array_equal(val[1], [check.val_loss for check in run.checks])
    np.testing.assert_array_equal(kept[0], [run.best_step] * 2)
    expected = [100 * check.train_accuracy for check in run.checks]
    np.testing.assert_array_equal(_lines(accuracy)[0][1], expected)
    assert _legend(figure)[:2] == ["training", "validation"]
    assert _legend(figure)[2].startswith(f"kept: step {run.best_step}, epoch ")


@pytest.mark.parametrize("checks", [1, 200])
def test_a_history_without_validation_or_a_finite_end_fits(
    make_history: Make, assert_fits: Callable[[Figure], None], checks: int
) -> None:
    run = make_history(checks, validation=False, last_loss=float("nan"), stopped="diverged")
    figure = plot_history(run)
    assert "validation" not in _legend(figure)
    assert "not finite" in figure.get_suptitle()
    assert_fits(figure)


def test_each_label_has_a_colour_and_each_kind_of_loss_a_line_style(make_history: Make) -> None:
    before, after = make_history(shift=0.5), make_history()
    figure = plot_histories({"before": before, "after": after})
    loss, accuracy = figure.axes
    assert [line.get_linestyle() for line in loss.get_lines()] == ["--", "-", "--", "-"]
    colours = [line.get_color() for line in loss.get_lines()]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_color() for line in accuracy.get_lines()] == colours[1:3]
    assert _legend(figure) == ["before", "after", "validation", "training"]


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("length", [1, 15, 50])
def test_labels_of_any_length_fit(
    make_history: Make, assert_fits: Callable[[Figure], None], count: int, length: int
) -> None:
    run = make_history(2)
    assert_fits(plot_histories({f"{i}{'m' * length}": run for i in range(count)}))


def test_the_gap_is_validation_minus_training_loss(make_history: Make) -> None:
    run, seeds = make_history(), [make_history(4), make_history(6)]
    figure = plot_gap(run)
    gap = _lines(figure.axes[0])[1]
    expected = [(check.val_loss or 0) - check.train_loss for check in run.checks]
    np.testing.assert_array_equal(gap[1], expected)
    assert not figure.legends
    assert len(plot_gap(seeds).axes[0].collections) == 1
    labels = _legend(plot_gap({"a": seeds, "b": run}))
    assert labels == ["a (2 runs)", "b", "± standard deviation (thin: single runs)"]


def test_runs_without_values_are_rejected(make_history: Make) -> None:
    run: Any = make_history()
    wrong: Any
    for wrong in (run, {}, [run], {"x": 3}, {"x": "run"}):
        with pytest.raises(InvalidTypeError):
            plot_histories(wrong)
    for wrong in ([], [make_history(0)]):
        with pytest.raises(InvalidValueError, match="'x'"):
            plot_histories({"x": wrong})
    with pytest.raises(InvalidTypeError, match="a list"):
        plot_history([run])  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="'a' has no validation loss"):
        plot_gap({"a": make_history(validation=False)})


def test_runs_are_drawn_as_their_histories(make_history: Make) -> None:
    history = make_history(3)
    run = RunRecord.__new__(RunRecord)
    object.__setattr__(run, "history", history)
    draws: list[Callable[[Any], Figure]] = [plot_history, plot_gap]
    draws.append(lambda each: plot_histories({"a": [each, history]}))
    for draw in draws:
        one, two = (_lines(draw(each).axes[0]) for each in (run, history))
        for line, expected in zip(one, two, strict=True):
            np.testing.assert_array_equal(line, expected)
