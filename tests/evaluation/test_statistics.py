from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.statistics import (
    Estimate,
    accuracy_interval,
    auroc,
    calibration_error,
    fit_temperature,
    mean_and_std,
    paired_difference,
)

figures = st.floats(-100, 100)


@given(st.integers(1, 10_000), st.data())
def test_wilson_interval_follows_its_formula(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    z, p = statistics.NormalDist().inv_cdf(0.975), correct / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + (z / (2 * total)) ** 2)
    low, high = accuracy_interval(correct, total)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize(("correct", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_counts_out_of_range_are_rejected(correct: int, total: int) -> None:
    with pytest.raises(InvalidValueError, match=r"correct|total"):
        accuracy_interval(correct, total)
    with pytest.raises(InvalidTypeError, match="correct"):
        accuracy_interval(0.7, 100)  # type: ignore[arg-type]


@given(st.lists(figures, min_size=2, max_size=10))
def test_mean_and_std_equal_those_of_the_standard_library(values: list[float]) -> None:
    found = mean_and_std(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(statistics.mean(values), abs=1e-9)
    assert found.std == pytest.approx(statistics.stdev(values), abs=1e-6)


def test_interval_of_three_seeds_agrees_with_a_table_of_students_t() -> None:
    found = mean_and_std([0.71, 0.72, 0.73])
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.72 - half, 0.72 + half), abs=1e-6)
    assert mean_and_std([0.7]) == Estimate(mean=0.7, std=None, low=None, high=None, n=1)


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=8))
def test_difference_is_paired(pairs: list[tuple[float, float]]) -> None:
    after, before = ([pair[i] for pair in pairs] for i in (0, 1))
    assert paired_difference(after, before) == mean_and_std([a - b for a, b in pairs])


def test_invalid_values_are_rejected() -> None:
    for values in ([], [0.1, math.nan], [math.inf]):
        with pytest.raises(InvalidValueError, match="value"):
            mean_and_std(values)
    with pytest.raises(InvalidValueError, match="after has 1 values and before 2"):
        paired_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_temperature_recovers_a_known_scaling(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    calibrated = 2 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(calibrated.softmax(1), 1, generator=generator)[:, 0]
    logits = temperature * calibrated
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    assert calibration_error((logits / found).softmax(1), labels) < 0.01


def test_invalid_logits_and_labels_are_rejected() -> None:
    with pytest.raises(InvalidValueError, match=r"labels are in 0\.\.3"):
        fit_temperature(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(InvalidValueError, match="NaN"):
        fit_temperature(torch.full((2, 3), math.nan), torch.tensor([0, 1]))


def test_auroc_counts_ties_half() -> None:
    known, others = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 0.0])
    # Of six pairs: 3 > 2, 3 > 0, 2 = 2, 2 > 0, 1 < 2, 1 > 0.
    assert auroc(known, others) == pytest.approx(4.5 / 6)
    assert auroc(others, known) == pytest.approx(1.5 / 6)
    assert auroc(torch.ones(5), torch.ones(7)) == 0.5


@given(*[st.lists(st.integers(0, 9), min_size=1, max_size=20)] * 2)
def test_auroc_equals_that_of_scikit_learn(known: list[int], others: list[int]) -> None:
    truth = [1] * len(known) + [0] * len(others)
    expected = roc_auc_score(truth, known + others)
    assert auroc(torch.tensor(known), torch.tensor(others)) == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[], [[1.0]], [math.nan]])
def test_invalid_scores_are_rejected(scores: list[float]) -> None:
    with pytest.raises(InvalidValueError, match="scores_out"):
        auroc(torch.ones(2), torch.tensor(scores))
