"""The weights that come with the package: what their descriptions say is what they are."""

from __future__ import annotations

import json
import socket
import statistics
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cifarzoo import (
    ModelName,
    Weights,
    accuracy_interval,
    build_model,
    cifar10_loaders,
    evaluate,
    layer_table,
    list_models,
    mean_and_std,
    model_card,
)
from cifarzoo.cli.app import app
from cifarzoo.report.folder import read_record, record_path
from cifarzoo.report.record import fingerprint_of
from cifarzoo.weights import LIMIT_BYTES, packaged_file, packaged_folder

RESULTS = Path(__file__).parents[1] / "results" / "zoo"
AT_ONCE = 150_000_000  # multiply-accumulates an image; `nox -s weights` scores larger ones too
HALF_AN_HOUR = 1800  # seconds: what takes less is run with three seeds or more
TOLERANCE = 2e-4 + 1e-9  # of the accuracy: two images of 10,000, and what floats round

PACKED = [(name, weights) for name in list_models() for weights in model_card(name).weights]


def of_files(packed: list[tuple[ModelName, Weights]]) -> pytest.MarkDecorator:
    """Run a test once for each file."""
    ids = [f"{name}-{weights.tag}" for name, weights in packed]
    return pytest.mark.parametrize(("name", "weights"), packed, ids=ids)


def macs(name: str) -> int:
    """Give a model's multiply-accumulates for one image."""
    return sum(row.macs for row in layer_table(build_model(name)))


each_file = of_files(PACKED)
each_quick_file = of_files([each for each in PACKED if macs(each[0]) <= AT_ONCE])


def test_folder_holds_descriptions_and_files_and_stays_small() -> None:
    files = {
        path.name
        for path in packaged_folder().iterdir()
        if path.suffix not in (".py", ".pyc") and path.is_file()
    }
    both = {packaged_file(name, weights.tag).name for name, weights in PACKED}
    assert files == both | {Path(name).with_suffix(".json").name for name in both}
    assert sum(weights.size_bytes for _, weights in PACKED) <= LIMIT_BYTES


def test_every_recorded_recipe_has_its_weights() -> None:
    recorded = {path.stem.rpartition("-seed")[0] for path in RESULTS.glob("*.json")}
    assert recorded == {key_of(name, weights) for name, weights in PACKED}


def key_of(name: str, weights: Weights) -> str:
    return name if weights.tag == "default" else f"{name}_{weights.tag}"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection fail."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
@each_file
def test_weights_load_and_are_finite(name: str, weights: Weights) -> None:
    model = build_model(name, weights=weights.tag)
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


@each_file
def test_description_is_that_of_the_recorded_runs(name: str, weights: Weights) -> None:
    key = key_of(name, weights)
    records = [read_record(record_path(RESULTS, key, seed)) for seed in weights.seeds]
    tests = {record.seed: record.test for record in records}
    accuracies = [score.accuracy for score in tests.values() if score is not None]
    estimate = mean_and_std(accuracies)
    assert len(accuracies) == len(records)
    assert (weights.mean, weights.std) == (estimate.mean, estimate.std)
    assert weights.accuracy == sorted(accuracies)[(len(accuracies) - 1) // 2]
    correct = round(weights.accuracy * 10_000)
    assert weights.interval == pytest.approx(accuracy_interval(correct, 10_000))
    (shipped,) = (record for record in records if record.seed == weights.seed)
    assert shipped.sha256 == weights.sha256
    assert shipped.test_tta is not None
    assert weights.views == shipped.test_tta.accuracy
    assert weights.seconds == statistics.median(record.history.seconds for record in records)
    assert all(str(record.machine) in weights.machine for record in records)
    assert len(records) >= 3 or weights.seconds >= HALF_AN_HOUR
    for record in records:
        assert record.recipe == weights.recipe
        assert record.source.commit
        assert record.source.dirty is False
        assert record.network == fingerprint_of(build_model(name))
        assert record.test is not None
        assert record.test.n == 10_000


@each_file
def test_weights_of_a_recipes_tag_are_by_that_recipe(name: str, weights: Weights) -> None:
    card = model_card(name)
    assert (weights.recipe == card.recipe) == (weights.tag == "default")
    assert weights.tag not in card.recipe_tags or card.recipe_for(weights.tag) == weights.recipe


@pytest.mark.parametrize(
    ("name", "tag", "aim"),
    [
        ("resnet20", "long", 0.923),
        ("tiny_m", "default", 0.90),
        ("sprint_m3", "default", 0.945),
        ("sprint_l", "long", 0.955),
    ],
)
def test_accuracy_aimed_at_is_reached(name: str, tag: str, aim: float) -> None:
    weights = model_card(name).weights_for(tag)
    assert weights is not None
    assert weights.accuracy >= aim


@pytest.mark.parametrize("name", sorted({name for name, _ in PACKED}))
def test_every_model_with_weights_has_default_ones(name: str) -> None:
    first = model_card(name).weights[0]
    default = build_model(name, weights="default").state_dict()
    for key, tensor in build_model(name, weights=first.tag).state_dict().items():
        assert torch.equal(tensor, default[key])


@each_quick_file
def test_accuracy_on_the_real_test_set_is_the_one_that_is_said(
    name: str, weights: Weights, real_root: Path
) -> None:
    model = build_model(name, weights=weights.tag)
    found = evaluate(model, cifar10_loaders(root=real_root).test, precision="float32")
    assert found.accuracy == pytest.approx(weights.accuracy, abs=TOLERANCE)


def test_evaluate_on_the_command_line_gives_the_cards_accuracy(
    real_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFARZOO_DATA", str(real_root))
    result = CliRunner().invoke(app, ["evaluate", "tiny_m", "--json"])
    assert result.exit_code == 0
    (weights,) = model_card("tiny_m").weights
    found = json.loads(result.stdout)
    assert found["weights"] == "default"
    assert found["accuracy"] == pytest.approx(weights.accuracy, abs=TOLERANCE)


def test_descriptions_are_plain_json() -> None:
    for name, weights in PACKED:
        path = packaged_file(name, weights.tag).with_suffix(".json")
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["model"] == name
