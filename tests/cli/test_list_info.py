from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from cifarzoo import build_model, count_params, layer_table, list_models, model_card

Call = Callable[..., Result]


def test_list_shows_every_model(call: Call) -> None:
    result = call("list")
    header, *lines = result.stdout.splitlines()
    assert header.split()[:3] == ["name", "parameters", "MACs"]
    assert [line.split()[0] for line in lines] == list_models()
    rows = {line.split()[0]: line for line in lines}
    assert "390,410" in rows["report_baseline"]
    assert "SGD, lr 0.05" in rows["report_baseline"]
    for name in list_models():
        for weights in model_card(name).weights:
            assert f"{weights.tag} {100 * weights.mean:.2f}" in rows[name]
            assert f"on {weights.data}" in rows[name]


def test_list_prints_json(call: Call) -> None:
    records = {each["name"]: each for each in json.loads(call("list", "--json").stdout)}
    assert list(records) == list_models()
    baseline, card = records["report_baseline"], model_card("report_baseline")
    assert (baseline["params"], baseline["macs"]) == (390_410, 28_803_712)
    assert baseline["recipes"]["standard"]["lr"] == card.recipe.lr
    assert [each["sha256"] for each in baseline["weights"]] == [w.sha256 for w in card.weights]


def test_list_is_filtered(call: Call) -> None:
    options = ("resnet*", "--family", "resnet", "--max-params", "300000")
    expected = list_models("resnet*", family="resnet", max_params=300_000)
    found = json.loads(call("list", *options, "--json").stdout)
    assert [each["name"] for each in found] == expected
    assert "no model matches" in call("list", "--max-params", "5").stderr


@pytest.mark.parametrize("name", ["sprint_m", "resnet18_transfer"])
def test_info_shows_card_recipes_weights_and_layers(call: Call, name: str) -> None:
    result, card = call("info", name), model_card(name)
    assert card.summary in result.stdout
    lines = [line.split() for line in result.stdout.splitlines() if line]
    for tag in card.recipes:
        assert ["recipe", tag] in lines
        assert ["epochs", str(card.recipes[tag].epochs)] in lines
    for weights in card.weights:
        assert weights.sha256 in result.stdout
        assert ["data", "set", *(each.data for each in card.weights)] in lines
    assert ("no weights" in result.stdout) == (not card.weights)
    assert ("starts from" in result.stdout) == (card.initial_weights is not None)
    for row in layer_table(build_model(name)):
        assert any(f"{row.params:,}" in line and f"{row.macs:,}" in line for line in lines)


def test_info_shows_scores(call: Call) -> None:
    scores = model_card("tiny_m").weights[0].scores
    assert scores is not None
    lines = [" ".join(line.split()) for line in call("info", "tiny_m").stdout.splitlines()]
    assert f"calibration error {100 * scores.calibration_error:.2f} %" in lines
    assert f"fog {100 * scores.by_corruption['fog']:.2f} %" in lines
    record = json.loads(call("info", "tiny_m", "--json").stdout)
    assert record["weights"][0]["scores"]["temperature"] == scores.temperature


def test_info_prints_json(call: Call) -> None:
    record = json.loads(call("info", "report_model2", "--json").stdout)
    assert record["params"] == sum(layer["params"] for layer in record["layers"])
    assert record["params"] == count_params(build_model("report_model2"))
    assert record["macs"] == sum(layer["macs"] for layer in record["layers"])
