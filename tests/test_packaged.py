"""The weights in the package agree with the records of their runs."""

from __future__ import annotations

import socket

import pytest

from cifarzoo import Recipe, Weights, build_model, evaluate, list_models, model_card
from cifarzoo.evaluation.corruptions import CORRUPTIONS
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.run import load_data
from cifarzoo.weights import PRETRAINED, packaged_file, read_metadata

LIMIT_BYTES = 45_000_000
HALF_AN_HOUR = 1800  # seconds; models that train faster are trained with three seeds
TWO_IMAGES = 2e-4 + 1e-9  # of 10,000
QUICK = ("report_baseline", "report_model2", "sprint_s", "tiny_s")  # the others take minutes

PACKAGED = [(name, weights) for name in list_models() for weights in model_card(name).weights]
each_file = pytest.mark.parametrize(
    ("name", "weights"), PACKAGED, ids=[f"{name}-{weights.tag}" for name, weights in PACKAGED]
)


def test_folder_holds_weights_and_records_only_and_is_small() -> None:
    stems = {f"{name}-{weights.tag}": weights.seeds for name, weights in PACKAGED}
    records = {f"{stem}-seed{seed}.json" for stem, seeds in stems.items() for seed in seeds}
    files = {f"{stem}.safetensors" for stem in stems}
    # Scores of replaced weights are not in use: score the weights again.
    files |= {f"{name}-{each.tag}-scores.json" for name, each in PACKAGED if each.scores}
    assert {path.name for path in PRETRAINED.iterdir()} == records | files
    assert sum(weights.size_bytes for _, weights in PACKAGED) <= LIMIT_BYTES


@each_file
def test_file_loads_without_the_network(
    name: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    build_model(name, weights=weights.tag)
    made_for = read_metadata(packaged_file(name, weights.tag)).get("model", name)
    assert made_for in (name, name.removesuffix("_bc"))  # files of renamed models are unchanged


@each_file
def test_runs_differ_only_in_their_seeds(name: str, weights: Weights) -> None:
    params = sum(each.numel() for each in build_model(name, weights=weights.tag).parameters())
    assert len(weights.runs) >= 3 or weights.seconds >= HALF_AN_HOUR
    assert len({*weights.seeds}) == len(weights.runs)
    for run in weights.runs:
        assert (run.name, run.data, run.limit, run.params) == (name, weights.data, None, params)
        assert run.recipe == weights.recipe
        assert run.provenance.commit
        assert run.provenance.dirty is False
        assert run.test is not None
        assert run.test.n == 10_000
        correct = round(run.test.accuracy * 10_000)
        assert run.test.interval == pytest.approx(accuracy_interval(correct, 10_000))
        assert run.test.confusion is not None
        assert int(run.test.confusion.diag().sum()) == correct
    assert weights.tta_accuracy is not None


@each_file
def test_tag_names_the_recipe(name: str, weights: Weights) -> None:
    if (name, weights.tag) == ("sprint_l", "long"):
        assert "only commit da19027 can run" in weights.run.note
    else:
        assert model_card(name).recipe_for(weights.tag) == weights.recipe


@pytest.mark.parametrize("weights", [each for _, each in PACKAGED if each.scores], ids=repr)
def test_scores_were_measured_on_whole_sets_by_committed_code(weights: Weights) -> None:
    scores = weights.scores
    assert scores is not None
    assert scores.provenance.commit
    assert scores.provenance.dirty is False
    assert scores.unique_images == 10_000 - 286
    assert weights.run.test is not None
    recorded = weights.run.test.calibration_error
    assert scores.calibration_error == pytest.approx(recorded, abs=1e-3)
    assert tuple(scores.corruptions) == CORRUPTIONS
    assert all(len(accuracies) == 5 for accuracies in scores.corruptions.values())
    assert (scores.corruption_images, scores.pgd_images) == (2_000, 1_000)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*not in the published order")
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        pytest.param(
            *each,
            id=f"{each[0]}-{each[1].tag}",
            marks=[] if each[0] in QUICK else pytest.mark.weights,
        )
        for each in PACKAGED
    ],
)
def test_evaluate_returns_the_cards_accuracy(
    name: str, weights: Weights, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue("real_root100" if weights.data == "cifar100" else "real_root")
    test = load_data(weights.data, Recipe(), root=root).test  # type: ignore[arg-type]
    found = evaluate(build_model(name, weights=weights.tag), test)
    assert found.accuracy == pytest.approx(weights.accuracy, abs=TWO_IMAGES)
