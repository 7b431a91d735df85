from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cifarzoo import ResultsError
from cifarzoo.report.experiments import EXPERIMENTS
from cifarzoo.report.folder import Results
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.summary import Summary, Verdict, ablation, change, summaries

Make = Callable[..., Record]


def summed(*records: Record, failures: Sequence[Failure] = ()) -> dict[str, Summary]:
    return summaries(Results(records=records, failures=tuple(failures)))


def test_mean_and_difference_to_the_report(make_record: Make) -> None:
    found = summed(*(make_record(seed=i, accuracy=a) for i, a in enumerate((0.71, 0.72, 0.73))))
    baseline = found["baseline"]
    estimate = baseline.estimate("test_accuracy")
    assert estimate is not None
    assert (estimate.mean, estimate.std, estimate.n) == pytest.approx((0.72, 0.01, 3))
    assert baseline.difference("test_accuracy") == pytest.approx(0.72 - 0.7251)
    assert baseline.difference("steps") == 40 - 5265
    assert baseline.seeds == (0, 1, 2)


def test_figure_that_the_report_does_not_give_has_no_difference(make_record: Make) -> None:
    baseline = summed(make_record())["baseline"]
    assert baseline.estimate("train_loss") is not None
    assert baseline.reported_figure("train_loss") is None
    assert baseline.difference("train_loss") is None


def test_what_was_not_run_is_there_without_figures(make_record: Make) -> None:
    failure = Failure(key="best", seed=0, error="no weights", date="2026-01-01")
    found = summed(make_record(), failures=[failure])
    assert list(found) == [experiment.key for experiment in EXPERIMENTS]
    assert found["best"].failure == failure
    assert found["best"].records == ()
    assert found["best"].estimate("test_accuracy") is None
    assert found["best"].difference("test_accuracy") is None
    assert found["best"].course is None


def test_other_experiments_come_last_with_their_own_title(make_record: Make) -> None:
    other = replace(make_record(), key="lite0_transfer", title="Lite0", task="4a")
    found = summed(make_record(), other)
    assert list(found)[-1] == "lite0_transfer"
    assert found["lite0_transfer"].title == "Lite0"
    assert found["lite0_transfer"].reported is None


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.030, 0.031, 0.029), "better"),
        ((-0.030, -0.031, -0.029), "worse"),
        ((0.03, -0.03, 0.01), "no clear difference"),
        ((0.03,), "one seed"),
        ((), "not run"),
    ],
)
def test_verdict_is_that_of_the_interval(
    make_record: Make, gains: tuple[float, ...], verdict: Verdict
) -> None:
    before = [make_record(seed=i, accuracy=0.70 + i / 100) for i in range(3)]
    after = [
        make_record("ablation_dropout", seed=i, accuracy=0.70 + i / 100 + gain)
        for i, gain in enumerate(gains)
    ]
    found = summed(*before, *after)
    result = change(found["ablation_dropout"], found["baseline"])
    assert result.verdict == verdict


def test_pairs_share_their_seed(make_record: Make) -> None:
    before = [make_record(seed=seed, accuracy=0.6 + seed / 10) for seed in (0, 1, 2)]
    after = [make_record("best", seed=seed, accuracy=0.65 + seed / 10) for seed in (2, 1)]
    found = summed(*before, *after)
    difference = change(found["best"], found["baseline"]).difference
    assert difference is not None
    assert difference.n == 2
    assert difference.mean == pytest.approx(0.05)
    assert difference.std == pytest.approx(0)


def test_ablation_lists_every_change(make_record: Make) -> None:
    changes = ablation(summed(make_record()))
    assert len(changes) == 8
    assert {each.verdict for each in changes} == {"not run"}


@pytest.mark.parametrize("difference", [{"data": "shapes"}, {"mode": "quick"}])
def test_data_sets_are_not_mixed(make_record: Make, difference: dict[str, object]) -> None:
    with pytest.raises(ResultsError, match=r"different data sets .*best-seed0\.json"):
        summed(make_record(), make_record("best", **difference))


def test_recipes_are_not_averaged(make_record: Make) -> None:
    one = make_record()
    other = make_record(seed=1, recipe=replace(one.recipe, epochs=3))
    with pytest.raises(ResultsError, match=r"different recipes .*baseline-seed1\.json"):
        summed(one, other)


def test_networks_are_not_averaged(make_record: Make) -> None:
    with pytest.raises(ResultsError, match="different recipes"):
        summed(make_record(), make_record(seed=1, network="another"))
