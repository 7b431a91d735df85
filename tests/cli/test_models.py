from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import pytest
from typer.testing import Result

from cifarzoo import Weights, count_params, list_models, model_card

Call: TypeAlias = Callable[..., Result]


def test_list_shows_every_model(call: Call) -> None:
    result = call("list")
    assert result.exit_code == 0
    for name in list_models():
        assert name in result.stdout
        assert model_card(name).summary in result.stdout
    assert "390,410" in result.stdout
    assert "\x1b" not in result.stdout


def test_list_for_machines(call: Call) -> None:
    result = call("list", "--json")
    records = {record["name"]: record for record in json.loads(result.stdout)}
    assert tuple(records) == list_models()
    baseline = records["report_baseline"]
    assert baseline["params"] == 390_410
    assert baseline["macs"] == 28_803_712
    assert baseline["recipe"]["lr"] == 0.05


def test_list_takes_filters(call: Call) -> None:
    names = {r["name"] for r in json.loads(call("list", "--family", "report", "--json").stdout)}
    assert names == set(list_models(family="report"))
    small = json.loads(call("list", "--max-params", "400000", "--json").stdout)
    under = [record["name"] for record in small]
    assert under == list(list_models(max_params=400_000))
    assert "report_baseline" in under
    assert "report_best" not in under


def test_list_names_the_weights_and_those_that_the_accuracy_is_of(
    call: Call, published: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (replace(published, tag="default"), replace(published, tag="long"))
    for weights, told in ((both, "default, long"), (both[1:], "long: 80.61 ± 0.21 % (3 seeds)")):
        card = replace(model_card("report_baseline"), weights=weights)
        monkeypatch.setattr("cifarzoo.registry.model_card", lambda _, card=card: card)
        out = call("list", "--family", "report").stdout
        assert told in out
        assert out.count("80.61") == len(list_models(family="report"))


def test_empty_list_says_so(call: Call) -> None:
    result = call("list", "--max-params", "5")
    assert result.exit_code == 0
    assert "no model has at most 5 parameters" in result.stderr
    assert json.loads(call("list", "--max-params", "5", "--json").stdout) == []


def test_unknown_family_is_an_error(call: Call) -> None:
    result = call("list", "--family", "reprot")
    assert result.exit_code == 1
    assert "did you mean 'report'" in result.stderr


def test_info_shows_card_recipe_and_layers(call: Call) -> None:
    out = call("info", "report_baseline").stdout
    assert "Three 5×5 convolutions" in out
    assert "patience 4" in out
    (total,) = (line for line in out.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "390,410", "28,803,712"]


def test_info_for_machines(call: Call) -> None:
    record = json.loads(call("info", "report_model2", "--json").stdout)
    model = model_card("report_model2").builder(10)
    assert record["params"] == sum(layer["params"] for layer in record["layers"])
    assert record["params"] == count_params(model)
    assert record["macs"] == sum(layer["macs"] for layer in record["layers"])


def test_info_says_that_there_are_no_weights(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(model_card("report_baseline"), weights=())
    monkeypatch.setattr("cifarzoo.registry.model_card", lambda name: card)
    assert "No trained weights" in call("info", "report_baseline").stdout


def test_info_shows_weights(
    call: Call, published: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(model_card("report_baseline"), weights=(published,), initial_weights="v1")
    monkeypatch.setattr("cifarzoo.registry.model_card", lambda name: card)
    out = call("info", "report_baseline").stdout
    (row,) = (line for line in out.splitlines() if line.startswith("v1 "))
    cells = ("80.58 %", "81.23 %", "80.61 ± 0.21 % (3 seeds)", "0, 1, 2", "1 bytes", "A Processor")
    assert all(cell in row for cell in cells)
    assert f"v1: {published.size_bytes:,} bytes, SHA-256 {published.sha256}" in out
    assert "starts from the weights 'v1'" in out
