from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cifarzoo import Estimate, OptionError, accuracy_interval, mean_and_std, paired_difference

figures = st.floats(-100, 100)


@given(st.integers(1, 10_000), st.data())
def test_wilson_interval_by_its_formula(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    z, p = statistics.NormalDist().inv_cdf(0.975), correct / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    low, high = accuracy_interval(correct, total)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert 0 <= low <= p + 1e-12
    assert p - 1e-12 <= high <= 1


def test_report_s_test_set_is_worth_less_than_a_point() -> None:
    low, high = accuracy_interval(7251, 10_000)
    assert (high - low) / 2 == pytest.approx(0.0088, abs=1e-4)


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (accuracy_interval(70, 100, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("correct", "total", "confidence"),
    [(-1, 10, 0.95), (11, 10, 0.95), (0, 0, 0.95), (5, 10, 0), (5, 10, 1), (5, 10, math.nan)],
)
def test_counts_that_make_no_sense_are_refused(correct: int, total: int, confidence: float) -> None:
    with pytest.raises(OptionError, match=f"correct={correct}, total={total}|confidence is"):
        accuracy_interval(correct, total, confidence=confidence)


@given(st.lists(figures, min_size=2, max_size=10))
def test_mean_and_std_are_the_standard_librarys(values: list[float]) -> None:
    made = mean_and_std(values)
    assert made.n == len(values)
    assert made.mean == pytest.approx(statistics.mean(values), abs=1e-9)
    assert made.std == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert made.low is not None
    assert made.high is not None
    assert made.low <= made.mean <= made.high


def test_interval_of_three_seeds_by_the_table_of_student_s_t() -> None:
    made = mean_and_std([0.71, 0.72, 0.73])
    assert made.std == pytest.approx(0.01)
    assert made.high == pytest.approx(0.72 + 4.3027 * 0.01 / math.sqrt(3), abs=1e-6)
    assert made.low == pytest.approx(0.72 - 4.3027 * 0.01 / math.sqrt(3), abs=1e-6)


def test_one_run_has_no_spread() -> None:
    assert mean_and_std([0.7]) == Estimate(mean=0.7, std=None, low=None, high=None, n=1)


def test_no_run_is_refused() -> None:
    with pytest.raises(OptionError, match="run at least one seed"):
        mean_and_std([])


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95, math.nan])
def test_confidence_outside_of_zero_to_one_is_refused(confidence: float) -> None:
    with pytest.raises(OptionError, match="confidence"):
        mean_and_std([1, 2], confidence=confidence)


@given(st.lists(st.tuples(figures, figures), min_size=2, max_size=8), figures)
def test_difference_is_paired(pairs: list[tuple[float, float]], shift: float) -> None:
    after, before = ([pair[i] for pair in pairs] for i in (0, 1))
    made = paired_difference(after, before)
    assert made == mean_and_std([a - b for a, b in pairs])
    assume(made.std is not None)
    moved = paired_difference([a + shift for a in after], before)
    assert moved.mean == pytest.approx(made.mean + shift, abs=1e-9)
    assert moved.std == pytest.approx(made.std, abs=1e-5)


def test_spread_between_seeds_falls_out_of_a_paired_difference() -> None:
    made = paired_difference([0.5, 0.7, 0.9], [0.4, 0.6, 0.8])
    assert made.mean == pytest.approx(0.1)
    assert made.std == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("after", "before"), [([1.0], [1.0, 2.0]), ([], [])])
def test_pairs_that_do_not_fit_are_refused(after: list[float], before: list[float]) -> None:
    with pytest.raises(OptionError):
        paired_difference(after, before)


def test_share_instead_of_a_count_is_refused() -> None:
    with pytest.raises(OptionError, match=r"correct=0\.7, total=100.*whole numbers"):
        accuracy_interval(0.7, 100)  # type: ignore[arg-type]
