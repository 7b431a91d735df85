"""Records of runs: JSON round trips, damaged files, and summaries of several runs."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cifarzoo as zoo
from cifarzoo.errors import RunError
from cifarzoo.record import Provenance, RunRecord, Scores, read_record, read_scores
from cifarzoo.validation import from_json

CHECK = zoo.Check(
    step=5,
    epoch=1.0,
    train_loss=2.0,
    train_accuracy=0.3,
    val_loss=None,
    val_accuracy=None,
    lr=0.1,
    seconds=1.5,
)
SCORE = zoo.Evaluation(
    loss=0.5,
    accuracy=0.75,
    interval=(0.7, 0.8),
    per_class=(0.7, math.nan),
    confusion=torch.tensor([[7, 3], [0, 0]]),
    calibration_error=0.02,
    n=20,
)
RECORD = RunRecord(
    name="report_baseline",
    data="cifar10",
    seed=3,
    recipe=zoo.Recipe(),
    params=10,
    trainable_params=10,
    history=zoo.History(
        checks=(CHECK,), best_step=5, stopped="epochs", steps=5, images=40, seconds=1.5
    ),
    train=None,
    val=None,
    test=SCORE,
    weights_sha256="0" * 64,
    provenance=Provenance(
        processor="a CPU",
        cores=2,
        threads=2,
        device="cpu",
        precision="float32",
        commit="0123456789abcdef",
        dirty=True,
        versions={"cifarzoo": "1", "torch": "2"},
        date="2026-01-01T00:00:00+00:00",
    ),
)


SCORES = Scores(
    weights_sha256="ab" * 32,
    unique_accuracy=0.74,
    unique_images=18,
    calibration_error=0.02,
    temperature=0.5,
    temperature_images="5 images",
    scaled_calibration_error=0.01,
    corruptions={"fog": (0.7, 0.6, 0.5, 0.4, 0.3), "snow": (0.3, 0.3, 0.3, 0.3, 0.3)},
    corruption_images=10,
    auroc_probability=0.8,
    auroc_energy=0.7,
    pgd_accuracy=0.0,
    pgd_images=5,
    provenance=RECORD.provenance,
)


def with_accuracy(seed: int, accuracy: float) -> RunRecord:
    return replace(RECORD, seed=seed, test=replace(SCORE, accuracy=accuracy))


def test_record_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(RECORD.to_json())
    found = read_record(path)
    assert replace(found, test=None) == replace(RECORD, test=None)
    assert found.test is not None
    assert found.test.confusion is not None
    assert torch.equal(found.test.confusion, torch.tensor([[7, 3], [0, 0]]))
    assert math.isnan(found.test.per_class[1])
    assert found.to_json() == RECORD.to_json()
    assert "NaN" not in RECORD.to_json()


def test_scores_are_printed_on_any_console() -> None:
    rows = (*RECORD.history.table().rows, *SCORE.table().rows)
    assert all(text.isascii() for text in (str(SCORE), repr(RECORD), *map("".join, rows)))


def test_class_names_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(replace(RECORD, test=replace(SCORE, class_names=("a", "b"))).to_json())
    found = read_record(path).test
    assert found is not None
    assert found.class_names == ("a", "b")
    assert ("b", "nan%") in found.table().rows
    assert "NaN" not in path.read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": "0"},
        {"name": "Not A Name"},
        {"recipe": {"lr": 0}},
        {"weights_sha256": "abc"},
        {"unknown": 1},
        {"history": None},
    ],
)
def test_record_with_an_invalid_field_is_rejected(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(RECORD.to_json()) | change))
    with pytest.raises(RunError, match=r"run\.json"):
        read_record(path)


def test_scores_survive_json_and_average_over_corruptions(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(SCORES.to_json())
    assert read_scores(path) == SCORES
    assert SCORES.by_corruption == pytest.approx({"fog": 0.5, "snow": 0.3})
    assert SCORES.corruption_accuracy == pytest.approx(0.4)
    assert {("calibration error", "2.00%"), ("fog", "50.00%")} <= {*SCORES.table().rows}
    path.write_text(RECORD.to_json())
    with pytest.raises(RunError, match=r"scores\.json is not a record of scores"):
        read_scores(path)


@given(st.integers(0, 4000), st.binary(max_size=3))
def test_damaged_record_is_rejected_or_still_valid(position: int, damage: bytes) -> None:
    content = RECORD.to_json().encode()
    position %= len(content)
    with contextlib.suppress(zoo.CifarZooError):
        damaged = content[:position] + damage + content[position + 1 :]
        assert isinstance(from_json(RunRecord, damaged), RunRecord)


def test_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent\.json"):
        read_record(tmp_path / "absent.json")


@given(st.lists(st.floats(0.1, 0.99), min_size=1, max_size=7))
def test_weights_are_those_of_the_lower_median_run(accuracies: list[float]) -> None:
    runs = tuple(with_accuracy(seed, accuracy) for seed, accuracy in enumerate(accuracies))
    weights = zoo.Weights(tag="standard", size_bytes=1, runs=runs)
    assert weights.accuracy == statistics.median_low(accuracies)
    assert weights.mean == pytest.approx(statistics.fmean(accuracies))
    assert weights.seeds == tuple(range(len(runs)))
    if len(runs) > 1:
        assert weights.std == pytest.approx(statistics.stdev(accuracies))
    else:
        assert weights.std is None


def test_weights_require_a_test_score_in_every_run() -> None:
    with pytest.raises(ValueError, match="test score"):
        zoo.Weights(tag="standard", size_bytes=1, runs=(replace(RECORD, test=None),))
    with pytest.raises(ValueError, match="runs"):
        zoo.Weights(tag="standard", size_bytes=1, runs=())


def test_recipes_are_found_by_their_tags() -> None:
    card = zoo.model_card("resnet20")
    assert card.recipe == card.recipe_for("standard")
    with pytest.raises(ValueError, match=r"'lnog'.*did you mean 'long'"):
        card.recipe_for("lnog")


def test_best_check_and_speed_follow_from_the_history() -> None:
    assert RECORD.history.best == CHECK
    assert RECORD.history.images_per_second == pytest.approx(40 / 1.5)
    assert replace(RECORD.history, best_step=4).best is None
    assert "0123456789 with changes" in RECORD.provenance.source
    assert RECORD.provenance.machine == "a CPU, 2 cores, 2 threads, cpu, float32"
