from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo import Estimate, mean_and_std
from cifarzoo.report.words import duration, interval, number, plus_minus, seeds_words, signed


@pytest.mark.parametrize(
    ("value", "digits", "scale", "text"),
    [(5265, 0, 1, "5,265"), (0.7251, 2, 100, "72.51"), (-11, 0, 1, "−11"), (0.5, 3, 1, "0.500")],
)
def test_number(value: float, digits: int, scale: float, text: str) -> None:
    assert number(value, digits, scale) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+1.23"), (-0.0123, "−1.23"), (0.0, "0.00"), (-0.00001, "0.00"), (12, "+1,200.00")],
)
def test_signed(value: float, text: str) -> None:
    assert signed(value, 2, 100) == text


def test_mean_of_one_run_has_no_deviation() -> None:
    assert plus_minus(mean_and_std([0.5]), 1, 100) == "50.0"
    assert interval(mean_and_std([0.5])) == ""


def test_mean_and_interval() -> None:
    estimate = Estimate(mean=0.5, std=0.01, low=-0.1, high=0.2, n=3)
    assert plus_minus(estimate, 1, 100) == "50.0 ± 1.0"
    assert interval(estimate, 0, 100) == "−10 to +20"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7810, "2 h 10 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_duration_is_off_by_half_its_last_unit_at_most(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    parts = duration(seconds).split()
    said = sum(float(n) * units[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    step = 0.1 if "." in parts[0] else units[parts[-1]]
    assert math.isclose(said, seconds, abs_tol=step / 2 + 1e-6)


def test_seeds() -> None:
    assert seeds_words((2, 0, 1)) == "seeds 0, 1, 2"
    assert seeds_words((4,)) == "seed 4"
