"""Intervals and means: what a number is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from cifarzoo.errors import OptionError
from cifarzoo.spec import require, require_number

__all__ = [
    "Estimate",
    "accuracy_interval",
    "mean_and_std",
    "paired_difference",
    "require_confidence",
]

LARGEST = 1e150  # whose square is still a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over several runs.

    Attributes:
        mean: of the runs, in the unit of the figures that were given.
        std: standard deviation of the runs (n - 1 in the denominator); None for one run.
        low: lower end of the 95 % confidence interval of the mean (Student's t); None for one run.
        high: upper end, in the same unit; None for one run.
        n: number of runs.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


def accuracy_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Give the Wilson interval of an accuracy.

    It holds the uncertainty from the finite test set, not that from the seed.

    Args:
        correct: images classified right, 0..total.
        total: images scored, at least 1.
        confidence: between 0 and 1.

    Returns:
        The ends, in [0, 1].

    Raises:
        OptionError: the counts or the confidence make no sense.

    Source: Wilson 1927, as implemented by `scipy.stats.binomtest`.
    """
    counts: tuple[object, ...] = correct, total
    whole = all(isinstance(each, Real) and float(each).is_integer() for each in counts)
    if not (whole and 0 <= correct <= total and total >= 1):
        raise OptionError(
            f"correct={correct!r}, total={total!r}; needed are whole numbers 0 <= correct <= total "
            "and total >= 1"
        )
    require_confidence(confidence)
    from scipy.stats import binomtest

    test = binomtest(int(correct), int(total))
    interval = test.proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def require_confidence(confidence: object) -> None:
    """Refuse what is no share of intervals that are to hold the truth.

    Raises:
        OptionError: it is no number between 0 and 1.
    """
    between = isinstance(confidence, Real) and 0 < float(confidence) < 1
    require("confidence", confidence, "between 0 and 1", met=between)


def mean_and_std(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Summarise runs that differ in their seed.

    Args:
        values: one figure a run, at least one; finite.
        confidence: of the interval of the mean, between 0 and 1.

    Returns:
        The mean with its standard deviation and interval; of one value the mean alone.

    Raises:
        OptionError: there is no value, one is not finite, or the confidence makes no sense.

    Source: Student's t, two-sided, as `scipy.stats.t` gives it.
    """
    n = len(values)
    if not n:
        raise OptionError("there are no values to average; run at least one seed")
    for value in values:
        require_number("a value", value, "finite numbers")
        require("a value", value, f"numbers under {LARGEST:g}", met=abs(value) < LARGEST)
    require_confidence(confidence)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean=mean, std=None, low=None, high=None, n=1)
    from scipy.stats import t

    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * std / math.sqrt(n)
    return Estimate(mean=mean, std=std, low=mean - half, high=mean + half, n=n)


def paired_difference(
    after: Sequence[float], before: Sequence[float], *, confidence: float = 0.95
) -> Estimate:
    """Estimate a change from runs that share their seeds, pair by pair.

    Args:
        after: one figure a seed, with the change.
        before: one figure a seed, without it, in the same order.
        confidence: of the interval of the mean difference, between 0 and 1.

    Returns:
        The mean of after - before, with its standard deviation and interval over the pairs.

    Raises:
        OptionError: the two differ in length, or are empty.

    Source: the paired t-test's interval, Student's t over the differences.
    """
    if len(after) != len(before):
        raise OptionError(
            f"there are {len(after)} values after and {len(before)} before; pairs need as many"
        )
    return mean_and_std(
        [new - old for new, old in zip(after, before, strict=True)], confidence=confidence
    )
