from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifarzoo.errors import OptionError
from cifarzoo.training.history import History
from cifarzoo.viz._series import curve, named_runs, runs_of

Make = Callable[..., History]


def test_one_run_is_drawn_as_it_is(make_history: Make) -> None:
    run = make_history(5)
    drawn = curve([run], lambda check: check.val_loss)
    np.testing.assert_array_equal(drawn.steps, [check.step for check in run.checks])
    np.testing.assert_array_equal(drawn.mean, [check.val_loss for check in run.checks])
    assert drawn.spread is None
    assert drawn.tails == ()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(shifts=st.lists(st.floats(-5, 5), min_size=2, max_size=5))
def test_mean_and_spread_of_runs_that_differ_by_a_shift(
    make_history: Make, shifts: list[float]
) -> None:
    runs = [make_history(4, shift=shift) for shift in shifts]
    drawn = curve(runs, lambda check: check.train_loss)
    plain = np.array([check.train_loss for check in make_history(4).checks])
    np.testing.assert_array_almost_equal(drawn.mean, plain + float(np.mean(shifts)))
    assert drawn.spread is not None
    expected = np.full(4, np.std(shifts, ddof=1))
    np.testing.assert_array_almost_equal(drawn.spread, expected)


def test_the_mean_ends_where_the_first_run_does(make_history: Make) -> None:
    runs = [make_history(3), make_history(5, shift=1.0)]
    drawn = curve(runs, lambda check: check.train_loss)
    np.testing.assert_array_equal(drawn.steps, [100, 200, 300])
    ((steps, values),) = drawn.tails
    np.testing.assert_array_equal(steps, [300, 400, 500])
    np.testing.assert_array_equal(values, [check.train_loss for check in runs[1].checks[2:]])


def test_what_was_not_measured_is_left_out(make_history: Make) -> None:
    none = curve([make_history(validation=False)], lambda check: check.val_loss)
    assert len(none.steps) == 0
    mixed = curve(
        [make_history(3), make_history(3, validation=False)], lambda check: check.val_loss
    )
    assert len(mixed.steps) == 0
    assert [len(steps) for steps, _ in mixed.tails] == [3]


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_leaves_a_gap(make_history: Make, loss: float) -> None:
    runs = [make_history(3, last_loss=loss), make_history(3)]
    drawn = curve(runs, lambda check: check.train_loss)
    assert np.isfinite(drawn.mean).tolist() == [True, True, False]


def test_runs(make_history: Make) -> None:
    run = make_history()
    assert runs_of(run, label="x") == (run,)
    assert runs_of([run, run], label="x") == (run, run)
    assert named_runs({"a": run, "b": [run]}) == {"a": (run,), "b": (run,)}


@pytest.mark.parametrize(
    ("value", "words"), [([], "'x' holds no run"), (3, "'x' holds a int"), ("run", "holds a str")]
)
def test_what_is_not_a_run(value: History, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        named_runs({"x": value})


def test_a_run_without_a_check(make_history: Make) -> None:
    with pytest.raises(OptionError, match="before its first check"):
        runs_of(make_history(0), label="x")


def test_what_is_not_a_mapping(make_history: Make) -> None:
    with pytest.raises(OptionError, match="an empty dict"):
        named_runs({})
    with pytest.raises(OptionError, match="is a History; needed is a mapping"):
        named_runs(make_history())  # type: ignore[arg-type]
