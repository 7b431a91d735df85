from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from cifarzoo import (
    CheckpointError,
    ImageClassifier,
    Layout,
    Loaders,
    Recipe,
    ResultsError,
    WeightsError,
    count_params,
    report_model,
    save_weights,
)
from cifarzoo.report import runner
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment, experiment_of
from cifarzoo.report.folder import load_results, read_record, record_path
from cifarzoo.report.provenance import this_source
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.runner import checkpoint_path, recorded, run_experiment

TINY = Layout(filters=(4, 8), kernel_size=3, hidden=(8,))


@pytest.fixture
def experiment(recipe: Recipe) -> Experiment:
    """The baseline's card with a network and a recipe of milliseconds."""
    base = experiment_of("baseline")
    card = replace(base.card, builder=partial(report_model, TINY), recipe=recipe)
    return replace(base, card=card)


@pytest.fixture
def conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_loaders: Callable[..., Loaders]
) -> Conditions:
    """A folder, and made-up data."""
    monkeypatch.setattr(runner, "load", lambda conditions, recipe, *, seed: make_loaders(seed=seed))
    return Conditions(folder=tmp_path, device="cpu", precision="float32", progress=False)


def run(experiment: Experiment, conditions: Conditions, seed: int = 0) -> Record:
    outcome = run_experiment(experiment, seed, conditions)
    assert isinstance(outcome, Record)
    return outcome


def test_record_holds_what_was_measured_and_how(
    experiment: Experiment, conditions: Conditions
) -> None:
    record = run(experiment, conditions, seed=3)
    assert (record.key, record.seed, record.data, record.mode) == ("baseline", 3, "cifar10", "full")
    assert record.test is not None
    assert record.test.n == 10
    assert record.test.confusion is not None
    assert sum(map(sum, record.test.confusion)) == 10
    assert (record.test.tta, record.test_tta) == ("none", None)
    assert record.train is not None
    assert record.train.n == 48
    assert record.train.confusion is None
    assert record.recipe == experiment.card.recipe
    assert record.params == record.trainable == count_params(report_model(TINY))
    assert record.history.steps == 12
    assert record.machine.precision == "float32"
    assert record.source == this_source()
    assert record.total_seconds is not None
    assert record.total_seconds > record.history.seconds


def test_record_is_written_and_the_checkpoint_gone(
    experiment: Experiment, conditions: Conditions
) -> None:
    record = run(experiment, conditions)
    assert load_results(conditions.folder).records == (record,)
    assert [path.name for path in conditions.folder.iterdir()] == ["baseline-seed0.json"]


def test_what_is_recorded_is_found(experiment: Experiment, conditions: Conditions) -> None:
    assert recorded(experiment, 0, conditions) is None
    record = run(experiment, conditions)
    assert recorded(experiment, 0, conditions) == record
    assert recorded(experiment, 1, conditions) is None


@pytest.mark.parametrize("what", ["data", "mode", "recipe", "network", "scored"])
def test_other_run_of_that_name_is_not_written_over(
    experiment: Experiment, conditions: Conditions, what: str
) -> None:
    run(experiment, conditions)
    card = experiment.card
    if what == "data":
        conditions = replace(conditions, data="shapes")
    elif what == "mode":
        conditions = replace(conditions, mode="quick")
    elif what == "scored":
        conditions = replace(conditions, scored="val")
    elif what == "recipe":
        experiment = replace(experiment, card=replace(card, recipe=replace(card.recipe, lr=0.5)))
    else:
        wider = partial(report_model, replace(TINY, hidden=(9,)))
        experiment = replace(experiment, card=replace(card, builder=wider))
    with pytest.raises(ResultsError, match=rf"another run .*{what}\b.*: .* Choose another folder"):
        recorded(experiment, 0, conditions)


def test_killed_before_it_was_recorded_goes_on(
    experiment: Experiment, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(experiment, replace(conditions, folder=conditions.folder / "whole"))

    class KilledError(Exception):
        pass

    def killed(record: Record, folder: Path) -> Path:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_record", killed)
        with pytest.raises(KilledError):
            run_experiment(experiment, 0, conditions)
    assert checkpoint_path(conditions.folder, "baseline", 0).is_file()
    resumed = run(experiment, conditions)
    assert resumed.total_seconds is None
    assert resumed.test == expected.test
    losses = [check.val_loss for check in resumed.history.checks]
    assert losses == [check.val_loss for check in expected.history.checks]
    assert not checkpoint_path(conditions.folder, "baseline", 0).exists()


def test_checkpoint_of_another_run_is_refused(
    experiment: Experiment, conditions: Conditions
) -> None:
    path = checkpoint_path(conditions.folder, "baseline", 0)
    path.parent.mkdir()
    torch.save({"format": 0}, path)
    with pytest.raises(CheckpointError, match=path.name):
        run_experiment(experiment, 0, conditions)


def test_missing_weights_are_noted(experiment: Experiment, conditions: Conditions) -> None:
    def without_weights(num_classes: int) -> ImageClassifier:
        raise WeightsError("no such file: resnet18.pth")

    card = replace(experiment.card, builder=without_weights)
    outcome = run_experiment(replace(experiment, card=card), 0, conditions)
    assert isinstance(outcome, Failure)
    assert outcome.error == "no such file: resnet18.pth"
    assert load_results(conditions.folder).failures == (outcome,)
    assert not record_path(conditions.folder, "baseline", 0).exists()


def test_diverged_run_is_noted(experiment: Experiment, conditions: Conditions) -> None:
    steep = replace(experiment.card.recipe, lr=1e30)
    outcome = run_experiment(
        replace(experiment, card=replace(experiment.card, recipe=steep)), 0, conditions
    )
    assert isinstance(outcome, Failure)
    assert "not finite" in outcome.error


def test_reading_again_gives_the_same_record(
    experiment: Experiment, conditions: Conditions
) -> None:
    record = run(experiment, conditions)
    assert read_record(record_path(conditions.folder, "baseline", 0)) == record


def test_record_tells_another_file_of_weights_apart(
    experiment: Experiment, conditions: Conditions, tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    card = replace(experiment.card, initial_weights="imagenet")
    given, started = replace(conditions, weights=path), replace(experiment, card=card)
    save_weights(card.builder(10), path)
    record = run(started, given)
    assert record.weights is not None
    assert record.weights.startswith("start.safetensors (SHA-256 ")
    assert recorded(started, 0, given) == record
    save_weights(card.builder(10), path)  # other random weights under the same name
    with pytest.raises(ResultsError, match="weights: 'start"):
        recorded(started, 0, given)
