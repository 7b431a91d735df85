from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_ind, ttest_rel
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo import (
    Comparison,
    Evaluation,
    ImageClassifier,
    Loaders,
    OptionError,
    Predictions,
    Run,
    TensorLoader,
    compare,
    paired_difference,
    predict,
)
from cifarzoo.evaluation.runs import DesignName

AFTER = {0: 0.7910, 1: 0.8081, 2: 0.8056}
BEFORE = {0: 0.7745, 1: 0.7668, 2: 0.7598}

counts = st.integers(0, 10_000)
accuracies = counts.map(lambda correct: correct / 10_000)
several = st.lists(accuracies, min_size=2, max_size=8)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8)


def _predictions(right: list[bool], labels: list[int] | None = None) -> Predictions:
    """Of two classes, right where it is said."""
    truth = torch.tensor([0] * len(right) if labels is None else labels, dtype=torch.int64)
    taken = torch.where(torch.tensor(right, dtype=torch.bool), truth, 1 - truth)
    return Predictions(probabilities=nn.functional.one_hot(taken, 2).float(), labels=truth)


def _table(both: int, only_a: int, only_b: int, neither: int) -> tuple[Predictions, Predictions]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return _predictions(a), _predictions(b)


def _run(seed: int, accuracy: float | None) -> SimpleNamespace:
    test = None if accuracy is None else SimpleNamespace(accuracy=accuracy)
    return SimpleNamespace(seed=seed, test=test)


def _mirrored(found: Comparison) -> Comparison:
    return replace(
        found,
        accuracy_a=found.accuracy_b,
        accuracy_b=found.accuracy_a,
        difference=-found.difference,
        low=None if found.high is None else -found.high,
        high=None if found.low is None else -found.low,
        n=(found.n[1], found.n[0]),
    )


def _assert_close(one: Comparison, other: Comparison) -> None:
    assert (one.test, one.n, one.confidence) == (other.test, other.n, other.confidence)
    for name in ("accuracy_a", "accuracy_b", "difference", "low", "high", "p_value"):
        expected = getattr(other, name)
        if expected is None:
            assert getattr(one, name) is None
        else:
            assert getattr(one, name) == pytest.approx(expected, rel=1e-6, abs=1e-9)


# Runs.


def test_runs_with_the_same_seeds_are_paired() -> None:
    found = compare(AFTER, BEFORE)
    expected = ttest_rel(list(AFTER.values()), list(BEFORE.values()))
    assert found.test == "paired t-test"
    assert found.n == (3, 3)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.difference == pytest.approx(0.03453333)
    estimate = paired_difference(list(AFTER.values()), list(BEFORE.values()))
    assert (found.low, found.high) == pytest.approx((estimate.low, estimate.high))


def test_pairs_by_the_table_of_student_s_t() -> None:
    found = compare({0: 0.71, 1: 0.73, 2: 0.75}, {0: 0.70, 1: 0.71, 2: 0.72})  # 1, 2, 3 points
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert found.difference == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-6)
    # Two degrees of freedom have a formula: p = 1 - t / sqrt(2 + t**2), with t = 2 sqrt(3).
    assert found.p_value == pytest.approx(1 - math.sqrt(12 / 14))


@given(st.permutations([0, 1, 2]))
def test_pairs_are_formed_by_seed_not_by_order(order: list[int]) -> None:
    _assert_close(compare({seed: AFTER[seed] for seed in order}, BEFORE), compare(AFTER, BEFORE))
    _assert_close(compare(AFTER, {seed: BEFORE[seed] for seed in order}), compare(AFTER, BEFORE))


def test_plain_numbers_are_independent_unless_told() -> None:
    after, before = list(AFTER.values()), list(BEFORE.values())
    expected = ttest_ind(after, before, equal_var=False)
    found = compare(after, before)
    assert found.test == "Welch's t-test"
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    _assert_close(compare(after, before, design="paired"), compare(AFTER, BEFORE))
    _assert_close(compare(AFTER, BEFORE, design="independent"), found)


def test_other_seeds_are_independent() -> None:
    later = {seed + 1: accuracy for seed, accuracy in BEFORE.items()}
    assert compare(AFTER, later).test == "Welch's t-test"
    assert compare(AFTER, {0: 0.7, 1: 0.8}).n == (3, 2)
    assert compare(AFTER, list(BEFORE.values())).test == "Welch's t-test"


@given(several, several)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    found = compare(a, b)
    assert found.difference == pytest.approx(sum(a) / len(a) - sum(b) / len(b))
    assert found.n == (len(a), len(b))
    if max(a) - min(a) < 1e-9 or max(b) - min(b) < 1e-9:
        return  # scipy warns of these
    expected = ttest_ind(a, b, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@given(several, several)
def test_the_other_way_round_is_the_negative(a: list[float], b: list[float]) -> None:
    _assert_close(compare(a, b), _mirrored(compare(b, a)))


@given(pairs)
def test_pairs_the_other_way_round_are_the_negative(both: list[tuple[float, float]]) -> None:
    a, b = ([pair[i] for pair in both] for i in (0, 1))
    _assert_close(compare(a, b, design="paired"), _mirrored(compare(b, a, design="paired")))


@given(pairs, st.sampled_from(["paired", "independent"]))
def test_interval_holds_the_difference_and_agrees_with_p(
    both: list[tuple[float, float]], design: DesignName
) -> None:
    a, b = ([pair[i] for pair in both] for i in (0, 1))
    found = compare(a, b, design=design)
    if found.low is None or found.high is None or found.p_value is None:
        assert found.verdict == ("cannot tell" if found.p_value is None else "may be noise")
        return
    assert found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high
    assert 0 <= found.p_value <= 1
    if abs(found.p_value - 0.05) > 1e-6:
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)
        assert found.verdict == ("clear" if found.p_value < 0.05 else "may be noise")


@given(several)
def test_the_same_runs_are_no_difference(values: list[float]) -> None:
    seeded = dict(enumerate(values))
    found = compare(seeded, seeded)
    assert (found.difference, found.p_value) == (0, 1)
    assert found.verdict == "may be noise"


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (compare(AFTER, BEFORE, confidence=c) for c in (0.5, 0.99))
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low
    assert narrow.p_value == wide.p_value
    assert narrow.verdict == "clear"
    assert wide.verdict == "may be noise"


def test_one_run_tells_nothing() -> None:
    for found in (compare({0: 0.9}, {0: 0.1}), compare([0.9], [0.1]), compare([0.9], [0.1, 0.2])):
        assert found.low is found.high is found.p_value is None
        assert found.verdict == "cannot tell"
        assert "run more seeds" in str(found)
    assert compare({0: 0.9}, {0: 0.1}).difference == pytest.approx(0.8)


def test_runs_over_different_images_are_refused() -> None:
    few, many = (
        [SimpleNamespace(seed=0, test=SimpleNamespace(accuracy=0.5, n=n))] for n in (300, 4000)
    )
    with pytest.raises(OptionError, match=r"were scored over 300 images, those of b over 4,000"):
        compare(few, many)
    assert compare(few, few).difference == 0
    unknown = [SimpleNamespace(seed=0, test=SimpleNamespace(accuracy=0.5, n=None))]
    assert compare(few, unknown).difference == 0


def test_names_of_models_are_told_what_is_needed() -> None:
    needed = r"build_model\(name, weights='default'\)"
    with pytest.raises(OptionError, match=rf"a is 'tiny_m' .*{needed}"):
        compare("tiny_m", "sprint_s")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=rf"not both models .*{needed}"):
        compare("tiny_m", "sprint_s", data=[])  # type: ignore[call-overload]


@pytest.mark.parametrize("design", ["paired", "independent"])
def test_runs_without_spread_claim_nothing(design: DesignName) -> None:
    same = compare([0.7, 0.7], [0.7, 0.7], design=design)
    assert (same.low, same.high, same.p_value) == (None, None, 1.0)
    assert same.verdict == "may be noise"
    apart = compare([0.7, 0.7], [0.6, 0.6], design=design)
    assert (apart.low, apart.high, apart.p_value) == (None, None, None)
    assert apart.verdict == "cannot tell"
    what = "the differences" if design == "paired" else "the runs of a, and those of b,"
    assert f"{what} are all the same, which is no spread" in str(apart)


def test_differences_that_differ_by_rounding_have_no_spread() -> None:
    found = compare({0: 0.73, 1: 0.72, 2: 0.3}, {0: 0.72, 1: 0.71, 2: 0.29})
    assert found.difference == pytest.approx(0.01)
    assert found.p_value is None
    single: Any = [torch.tensor([0.73, 0.52, 0.3]) - less for less in (0, 0.01)]
    assert compare(*single, design="paired").p_value is None


def test_one_side_without_spread_is_told_by_the_other() -> None:
    found = compare([0.7, 0.7, 0.7], [0.60, 0.61, 0.62])
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.09 - half, 0.09 + half), abs=1e-6)


def test_arrays_and_tensors_are_numbers_too() -> None:
    after, before = list(AFTER.values()), list(BEFORE.values())
    arrays: Any = np.array(after), np.array(before)
    tensors: Any = tuple(torch.tensor(each, dtype=torch.float64) for each in (after, before))
    scalars: Any = list(arrays[0]), tuple(arrays[1])
    for a, b in (arrays, scalars, tensors):
        _assert_close(compare(a, b), compare(after, before))


def _finished(model: ImageClassifier, seed: int, score: Evaluation) -> Run:
    return Run(
        card=zoo.model_card("report_model1"),
        seed=seed,
        model=model,
        history=zoo.History(
            checks=(), best_step=0, stopped="failed", steps=0, images=0, seconds=0.0
        ),
        train=None,
        val=None,
        test=score,
        test_tta=None,
    )


def test_runs_give_their_seed_and_test_score(model: ImageClassifier, loaders: Loaders) -> None:
    assert loaders.test is not None
    score = zoo.evaluate(model, loaders.test, device="cpu")
    a = [_finished(model, seed, replace(score, accuracy=AFTER[seed])) for seed in (2, 0, 1)]
    b = [_finished(model, seed, replace(score, accuracy=BEFORE[seed])) for seed in BEFORE]
    for one, other in ((a, b), (tuple(a), BEFORE), (AFTER, b)):
        _assert_close(compare(one, other), compare(AFTER, BEFORE))


# Models and their predictions.


def test_agresti_s_approval_ratings() -> None:
    """Agresti 2002, Categorical Data Analysis, table 10.1: 0.04 with 0.02 to 0.06."""
    found = compare(*_table(794, 150, 86, 570))
    assert found.test == "exact McNemar test"
    assert found.n == (1600, 1600)
    assert (found.accuracy_a, found.accuracy_b) == (944 / 1600, 880 / 1600)
    assert found.difference == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((0.021, 0.059), abs=5e-4)
    assert found.p_value == pytest.approx(binomtest(150, 236).pvalue)
    assert found.verdict == "clear"


def test_mcnemar_by_hand() -> None:
    found = compare(*_table(10, 6, 1, 3))  # of 7 coins, 6 or more show one side
    assert found.p_value == pytest.approx(2 * (7 + 1) / 2**7)
    assert found.difference == pytest.approx(5 / 20)
    z, n = NormalDist().inv_cdf(0.975), 22
    half = z * math.sqrt(6.5 + 1.5 - 5**2 / n) / n
    assert (found.low, found.high) == pytest.approx((5 / n - half, 5 / n + half))


cells = st.tuples(*[st.integers(0, 30)] * 4).filter(any)


@given(cells)
def test_images_the_other_way_round_are_the_negative(table: tuple[int, int, int, int]) -> None:
    a, b = _table(*table)
    found = compare(a, b)
    _assert_close(found, _mirrored(compare(b, a)))
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.accuracy_a - found.accuracy_b == pytest.approx(found.difference)
    if table[1] == table[2]:
        assert found.p_value == 1
    if found.verdict == "clear":
        assert found.p_value is not None
        assert found.p_value < 0.05
        assert found.low > 0 or found.high < 0


def test_models_that_agree_are_not_told_apart() -> None:
    found = compare(*_table(90, 0, 0, 10))
    assert (found.difference, found.p_value, found.verdict) == (0, 1, "may be noise")


def test_a_verdict_needs_both_interval_and_test() -> None:
    found = compare(*_table(10, 5, 0, 5))  # exactly p = 1/16, where the interval leaves out zero
    assert found.low is not None
    assert found.low > 0
    assert found.p_value == pytest.approx(1 / 16)
    assert found.verdict == "may be noise"


def test_models_are_compared_by_what_they_predict(
    make_model: Callable[..., ImageClassifier], loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaders.test is not None
    a, b = make_model(seed=0), make_model(seed=1)
    found = compare(a, b, data=loaders.test, device="cpu")
    assert found.accuracy_a == zoo.evaluate(a, loaders.test, device="cpu").accuracy
    assert found.accuracy_b == zoo.evaluate(b, loaders.test, device="cpu").accuracy
    taken = (predict(each, loaders.test, device="cpu") for each in (a, b))
    assert found == compare(*taken)
    compare_module = importlib.import_module("cifarzoo.evaluation.compare")
    asked: list[object] = []

    def noting(model: ImageClassifier, data: Any, **options: Any) -> zoo.Predictions:  # noqa: ANN401
        asked.append(options["precision"])
        return predict(model, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(compare_module, "predict", noting)
        compare(a, b, data=loaders.test, device="cpu", precision="float32")
    assert asked == ["float32", "float32"]


# How it shows itself.


def test_prints_one_plain_line() -> None:
    assert str(compare(AFTER, BEFORE)) == (
        "a − b: +3.45 points (95 % interval -0.47 to +7.37), paired t-test over 3 pairs, "
        "p = 0.063: may be noise"
    )
    assert str(compare(*_table(794, 150, 86, 570))) == (
        "a − b: +4.00 points (95 % interval +2.12 to +5.87), exact McNemar test over 1,600 images, "
        "p < 0.001: clear"
    )
    assert "over 1 pair," in str(compare({0: 0.9}, {0: 0.1}))
    assert "over 3 and 2 runs" in str(compare([0.1, 0.2, 0.3], [0.2, 0.4]))
    assert "99.9 % interval" in str(compare(AFTER, BEFORE, confidence=0.999))


def test_zero_has_no_minus() -> None:
    assert "-0.00" not in str(compare({0: 0.1, 1: 0.3}, {0: 0.3, 1: 0.1 + 1e-7}))


def test_shows_itself_as_a_table() -> None:
    found = compare(AFTER, BEFORE)
    rows = {row[0]: row[1] for row in found._display().rows}
    assert rows["accuracy of a"] == "80.16%"
    assert rows["a − b"] == "+3.45 points"
    assert rows["95 % interval"] == "-0.47 to +7.37"
    assert rows["paired t-test"] == "p = 0.063"
    assert rows["verdict"] == "may be noise"
    page = found._repr_html_()
    assert page.startswith("<table>")
    assert all(cell in page for row in rows.items() for cell in row)
    assert "not of the methods" in compare(*_table(9, 2, 1, 0))._repr_html_()
    assert "run more seeds" in compare([0.5], [0.6])._repr_html_()


# What is refused.

GOOD = [0.1, 0.2]
RUNS = [_run(0, 0.1), _run(1, 0.2)]


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([], GOOD, r"a is empty; needed is at least one run"),
        (GOOD, {}, r"b is empty"),
        ([77.45, 76.7], GOOD, r"a holds 77.45; accuracies lie in \[0, 1\]; divide percents by 100"),
        (GOOD, {0: 77.45}, r"b holds 77.45.*divide percents by 100"),
        ([-0.1, 0.2], GOOD, r"a holds -0.1; accuracies lie in \[0, 1\]$"),
        ([math.nan, 0.2], GOOD, r"a holds nan; accuracies lie in \[0, 1\]$"),
        ([_run(0, math.nan)], RUNS, r"a holds nan"),
        ([_run(0, 0.1), _run(0, 0.2)], RUNS, r"a has seed 0 twice.*each seed once"),
        ([_run(0, 0.1), _run(1, None)], RUNS, r"a has no test score for seed 1; leave that run"),
        ([0.1, _run(1, 0.2)], GOOD, r"a holds numbers and runs; needed is one of the two"),
        (GOOD, [0.1, "0.2"], r"b\[1\] is '0.2' \(str\); needed is an accuracy"),
        (GOOD, [True, False], r"b\[0\] is True \(bool\)"),
        (GOOD, [None], r"b\[0\] is None"),
        (np.ones((2, 2)), GOOD, r"a\[0\] is a list"),
        (np.array(0.5), GOOD, r"a is 0.5 \(float\); needed is a sequence of accuracies"),
        ({0: "0.1"}, GOOD, r"an accuracy of a is '0.1' \(str\)"),
        ({"0": 0.1}, GOOD, r"a seed of a is '0' \(str\); needed is an int"),
        (0.7, GOOD, r"a is 0.7 \(float\); needed is a sequence of accuracies or of runs"),
        ("0.7", GOOD, r"a is '0.7' \(str\)"),
        (GOOD, RUNS[0], r"b is a SimpleNamespace; needed is a sequence"),
        (nn.Linear(1, 1), GOOD, r"one side is a Linear, the other a list; needed are two models"),
        (GOOD, _predictions([True]), r"one side is a Predictions, the other a list"),
        (nn.Linear(1, 1), _predictions([True]), r"one side is a Linear, the other a Predictions"),
        (nn.Linear(1, 1), nn.Linear(1, 1), r"data is None; pass data=loaders.test"),
    ],
)
def test_what_is_no_set_of_runs_is_refused(a: object, b: object, said: str) -> None:
    untyped: Any = compare
    with pytest.raises(OptionError, match=said):
        untyped(a, b)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([0.1, 0.2], [0.1, 0.2, 0.3], r"a has 2 runs and b 3; pairs need as many"),
        ({0: 0.1, 1: 0.2}, {1: 0.1, 2: 0.2}, r"only one side has seeds 0, 2; run them"),
        (RUNS, GOOD, r"b has no seeds and the other side has some"),
        (GOOD, RUNS, r"a has no seeds"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(a: object, b: object, said: str) -> None:
    untyped: Any = compare
    with pytest.raises(OptionError, match=said):
        untyped(a, b, design="paired")
    untyped(a, b)


def test_unknown_design_and_odd_confidence_are_refused() -> None:
    odd: Any = "pared"
    with pytest.raises(OptionError, match="unknown design 'pared'; did you mean 'paired'"):
        compare(GOOD, GOOD, design=odd)
    shares: tuple[Any, ...] = (0, 1, 95, math.nan, "0.9", None)
    for confidence in shares:
        with pytest.raises(OptionError, match=r"confidence is .*between 0 and 1"):
            compare(GOOD, GOOD, confidence=confidence)


def test_predictions_of_other_images_are_refused() -> None:
    here = _predictions([True, False])
    with pytest.raises(OptionError, match="a holds 2 images and b 1"):
        compare(here, _predictions([True]))
    with pytest.raises(OptionError, match="1 of 2 labels of a and b differ"):
        compare(here, _predictions([True, False], labels=[0, 1]))
    with pytest.raises(OptionError, match="b has no labels to be right about"):
        compare(here, replace(here, labels=None))
    with pytest.raises(OptionError, match="holds no image"):
        compare(_predictions([]), _predictions([]))


def test_options_that_do_not_belong_are_refused(model: ImageClassifier, loaders: Loaders) -> None:
    untyped: Any = compare
    here = _predictions([True, False])
    with pytest.raises(OptionError, match="images are paired; leave it out"):
        untyped(here, here, design="independent")
    with pytest.raises(OptionError, match=r"not both models .*; leave it out"):
        untyped(GOOD, GOOD, data=loaders.test)
    with pytest.raises(OptionError, match="images are paired"):
        untyped(model, model, data=loaders.test, design="independent", device="cpu")


def test_data_that_changes_between_models_is_refused(
    model: ImageClassifier, loaders: Loaders
) -> None:
    assert loaders.test is not None
    batches: Iterator[tuple[Tensor, Tensor]] = iter(loaders.test)
    with pytest.raises(OptionError, match="gone through once for each model"):
        compare(model, model, data=batches, device="cpu")
    images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    shuffled = TensorLoader(images, torch.arange(64) % 10, batch_size=8, shuffle="every_epoch")
    with pytest.raises(OptionError, match="a shuffling loader changes it each time"):
        compare(model, model, data=shuffled, device="cpu")
