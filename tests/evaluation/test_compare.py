from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_ind, ttest_rel
from torch import nn

from cifarzoo import (
    Comparison,
    ImageClassifier,
    Loaders,
    Predictions,
    compare,
    evaluate,
    predict,
)
from cifarzoo.errors import CifarZooError

AFTER = [0.7910, 0.8081, 0.8056]
BEFORE = [0.7745, 0.7668, 0.7598]

accuracies = st.integers(0, 10_000).map(lambda correct: correct / 10_000)
several = st.lists(accuracies, min_size=2, max_size=8)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8)


def _runs(*values: float, seeds: tuple[int, ...] = (0, 1, 2)) -> Any:  # noqa: ANN401
    return [
        SimpleNamespace(seed=seed, test=SimpleNamespace(accuracy=value))
        for seed, value in zip(seeds, values, strict=True)
    ]


def _predictions(correct: list[bool], labels: list[int] | None = None) -> Predictions:
    truth = torch.tensor([0] * len(correct) if labels is None else labels)
    classes = torch.where(torch.tensor(correct), truth, 1 - truth)
    return Predictions(probabilities=nn.functional.one_hot(classes, 2).float(), labels=truth)


def _table(both: int, only_a: int, only_b: int, neither: int) -> tuple[Predictions, Predictions]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return _predictions(a), _predictions(b)


def _assert_mirrored(one: Comparison, other: Comparison) -> None:
    assert one.difference == pytest.approx(-other.difference, abs=1e-9)
    assert one.n == other.n[::-1]
    assert one.verdict == other.verdict
    if other.low is None or other.high is None:
        assert one.low is one.high is None
    else:
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
        assert one.p_value == pytest.approx(other.p_value)


def test_runs_with_the_same_seeds_are_paired_by_seed() -> None:
    found = compare(_runs(*AFTER), _runs(*BEFORE[::-1], seeds=(2, 1, 0)))
    expected = ttest_rel(AFTER, BEFORE)
    assert (found.test, found.n) == ("paired t-test", (3, 3))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert compare(AFTER, BEFORE, design="paired") == found


@given(several, several)
def test_plain_accuracies_are_compared_by_welchs_test(a: list[float], b: list[float]) -> None:
    found = compare(a, b)
    assert found.test == "Welch's t-test"
    assert found.difference == pytest.approx(sum(a) / len(a) - sum(b) / len(b))
    _assert_mirrored(compare(b, a), found)
    if max(a) > min(a) and max(b) > min(b):
        expected = ttest_ind(a, b, equal_var=False)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_runs_with_different_seeds_are_independent() -> None:
    found = compare(AFTER, BEFORE)
    assert compare(_runs(*AFTER), _runs(*BEFORE, seeds=(1, 2, 3))) == found
    assert compare(_runs(*AFTER), BEFORE) == found
    assert compare(_runs(*AFTER), _runs(*BEFORE), design="independent") == found
    arrays: Any = np.array(AFTER), np.array(BEFORE)
    assert compare(*arrays) == found


@given(pairs)
def test_interval_contains_the_difference_and_agrees_with_p(
    both: list[tuple[float, float]],
) -> None:
    a, b = ([pair[i] for pair in both] for i in (0, 1))
    found = compare(a, b, design="paired")
    _assert_mirrored(compare(b, a, design="paired"), found)
    if found.low is None or found.high is None or found.p_value is None:
        assert found.verdict == ("cannot tell" if found.p_value is None else "may be noise")
        return
    assert found.low - 1e-9 <= found.difference <= found.high + 1e-9
    if abs(found.p_value - 0.05) > 1e-6:
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)
        assert found.verdict == ("clear" if found.p_value < 0.05 else "may be noise")


def test_runs_without_spread_have_no_verdict() -> None:
    for found in (
        compare([0.9], [0.1]),
        compare([0.9], [0.1, 0.2]),
        compare([0.7, 0.7], [0.6, 0.6]),
        compare([0.73, 0.72, 0.3], [0.72, 0.71, 0.29], design="paired"),
    ):
        assert found.low is found.high is found.p_value is None
        assert found.verdict == "cannot tell"
    assert compare([0.7, 0.7], [0.7, 0.7]).p_value == 1
    assert compare(AFTER, AFTER, design="paired").verdict == "may be noise"


def test_mcnemar_test_of_a_published_table() -> None:
    """Agresti 2002, Categorical Data Analysis, table 10.1: 0.04 with 0.02 to 0.06."""
    found = compare(*_table(794, 150, 86, 570))
    assert (found.test, found.n) == ("exact McNemar test", (1600, 1600))
    assert (found.accuracy_a, found.accuracy_b) == (944 / 1600, 880 / 1600)
    assert (found.low, found.high) == pytest.approx((0.021, 0.059), abs=5e-4)
    assert found.p_value == pytest.approx(binomtest(150, 236).pvalue)
    assert found.verdict == "clear"


@given(st.tuples(*[st.integers(0, 30)] * 4).filter(any))
def test_comparison_of_images_is_symmetric_and_consistent(table: tuple[int, int, int, int]) -> None:
    a, b = _table(*table)
    found = compare(a, b)
    _assert_mirrored(compare(b, a), found)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.difference <= found.high <= 1
    if table[1] == table[2]:
        assert found.p_value == 1
    if found.verdict == "clear":
        assert found.p_value is not None
        assert found.p_value < 0.05
        assert found.low > 0 or found.high < 0


def test_clear_verdict_requires_both_interval_and_p_value() -> None:
    found = compare(*_table(10, 5, 0, 5))  # p is exactly 1/16, and the interval excludes 0
    assert found.low is not None
    assert found.low > 0
    assert found.p_value == pytest.approx(1 / 16)
    assert found.verdict == "may be noise"


def test_models_are_compared_by_their_predictions(model: ImageClassifier, loaders: Loaders) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    data = loaders.train.in_order()  # type: ignore[attr-defined]
    found = compare(model, other, data=data, device="cpu")
    assert found == compare(*(predict(each, data, device="cpu") for each in (model, other)))
    assert found.accuracy_a == evaluate(model, data, device="cpu").accuracy


def test_comparison_is_printed_in_one_line() -> None:
    assert str(compare(AFTER, BEFORE, design="paired")) == (
        "a - b: +3.45 points (95 % interval -0.47 to +7.37), paired t-test over 3 pairs of runs, "
        "p = 0.063: may be noise"
    )
    assert str(compare(*_table(794, 150, 86, 570))) == (
        "a - b: +4.00 points (95 % interval +2.12 to +5.87), exact McNemar test over 1,600 images, "
        "p < 0.001: clear"
    )
    assert "over 3 and 1 runs, no p-value: cannot tell from a single" in str(compare(AFTER, [0.5]))
    assert "-0.00" not in str(compare([0.1, 0.3], [0.3, 0.1 + 1e-7]))
    assert "other seeds" in compare(*_table(9, 2, 1, 0)).table().note
    assert str(compare(AFTER, BEFORE)).isascii()  # for any console


HERE = _predictions([True, False])


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([], AFTER, {}, "a is empty"),
        ([77.45, 76.7], AFTER, {}, r"accuracy of a is 77\.45"),
        (AFTER, [math.nan], {}, "accuracy of b is nan"),
        ("tiny_m", AFTER, {}, "a is a str and b a list: .* load_runs"),
        (_runs(0.1, seeds=(0,))[0], 0.7, {}, "a is a .* and b a float: .* lists of runs"),
        ([0.1, *_runs(0.2, seeds=(1,))], AFTER, {}, "accuracy of a"),
        (_runs(0.1, 0.2, 0.3, seeds=(0, 1, 1)), AFTER, {}, "same seed"),
        ([SimpleNamespace(seed=0, test=None)], AFTER, {}, "without a test score"),
        (AFTER, BEFORE[:2], {"design": "paired"}, "cannot pair"),
        (_runs(*AFTER), _runs(*AFTER, seeds=(1, 2, 3)), {"design": "paired"}, "cannot pair"),
        (AFTER, BEFORE, {"design": "pared"}, "did you mean 'paired'"),
        (AFTER, BEFORE, {"data": []}, "data is set: expected None except for two models"),
        (nn.Linear(1, 1), AFTER, {}, "a is a Linear and b a list"),
        (nn.Linear(1, 1), nn.Linear(1, 1), {}, "data is None: expected a loader"),
        (torch.relu, nn.Linear(1, 1), {}, "data is None: expected a loader"),
        (torch.relu, AFTER, {}, "two models"),
        (nn.Linear(1, 1), nn.Linear(1, 1), {"data": iter([])}, "expected a loader"),
        (HERE, _predictions([True]), {}, "different labels"),
        (HERE, _predictions([True, False], labels=[0, 1]), {}, "different labels"),
        (HERE, replace(HERE, labels=None), {}, "have no labels"),
        (HERE, replace(HERE, probabilities=torch.ones(2, 2)), {}, "do not sum to 1"),
    ],
)
def test_errors_say_what_is_wrong(a: Any, b: Any, options: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(CifarZooError, match=message):
        compare(a, b, **options)
