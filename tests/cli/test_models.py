from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import pytest
from typer.testing import Result

from cifarzoo import (
    ModelCard,
    Weights,
    WeightsError,
    build_model,
    count_params,
    layer_table,
    list_models,
    model_card,
)

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
        assert out.count("80.61 ± 0.21") == len(list_models(family="report"))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_damaged_description_is_named_beside_the_list(
    call: Call, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    def card_of(name: str) -> ModelCard:
        if name == "report_best":
            raise WeightsError("report_best-default.json cannot be read")
        return model_card(name)

    monkeypatch.setattr("cifarzoo.registry.model_card", card_of)
    result = call("list", *options)
    assert result.exit_code == 1
    assert result.stderr == "error: report_best-default.json cannot be read\n"
    assert all(name in result.stdout for name in list_models())
    if options:
        found = {each["name"]: each["weights"] for each in json.loads(result.stdout)}
        assert [name for name, weights in found.items() if weights is None] == ["report_best"]
    else:
        (row,) = (line for line in result.stdout.splitlines() if line.startswith("report_best"))
        assert "not known" in row
        assert "damaged" in row
        assert result.stdout.count("damaged") == 1


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
    begin = out.splitlines().index("weights        v1")
    rows = dict(line.split("  ", 1) for line in out.splitlines()[begin : begin + 9])
    assert {what: cell.strip() for what, cell in rows.items()} == {
        "weights": "v1",
        "this file": "80.58 %",
        "95 % interval": "79.8 to 81.3 %",
        "six views": "81.23 %",
        "all runs": "80.61 ± 0.21 % (3 seeds)",
        "seeds": "0, 1, 2",
        "size": "1 bytes",
        "trained in": "12 s",
        "trained on": "A Processor, 2 cores, 2 threads, cpu, float32",
    }
    assert f"v1: {published.size_bytes:,} bytes, SHA-256 {published.sha256}" in out
    assert "starts from the weights 'v1'" in out


def test_info_says_in_what_another_recipe_differs(call: Call) -> None:
    out = call("info", "sprint_m").stdout
    told = out.split("Another recipe, --tag long: ")[1].split("\n\n")[0]
    epochs = model_card("sprint_m").recipe_for("long").epochs
    assert f", {epochs} epochs, linear, augmented, cutmix. It differs in\nlong\n" in told
    assert re.search(rf"^epochs +{epochs}$", told, re.MULTILINE)
    assert "cutout 12" in told
    assert "label_smoothing" not in told


@pytest.fixture
def narrow(call: Call, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run a command in a terminal of 80 columns, and give the lines of its tables."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def lines(*command: str) -> list[str]:
        shown = re.sub(r"\x1b\[[0-9;]*m", "", call(*command).stdout)
        assert "…" not in shown
        return [line for line in shown.splitlines() if line.startswith(" ")]

    return lines


def test_list_in_a_narrow_terminal_has_every_name(narrow: Callable[..., list[str]]) -> None:
    lines = narrow("list")
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines]
    sizes = {row[0]: row[1] for row in cells if row and row[0] in list_models()}
    assert sizes == {name: f"{count_params(build_model(name)):,}" for name in list_models()}


@pytest.mark.parametrize("name", ["resnet56", "densenet40_k12", "report_baseline"])
def test_layers_in_a_narrow_terminal_are_whole(narrow: Callable[..., list[str]], name: str) -> None:
    lines = narrow("info", name)
    assert max(map(len, lines)) <= 80
    (header,) = (line for line in lines if line.startswith(" layer"))
    table = lines[lines.index(header) + 2 :]
    layers = layer_table(build_model(name))
    column = "".join(line[: header.index("kind")].strip() for line in table)
    assert column == "".join(row.name for row in layers) + "total"
    shown = {word for line in table for word in line.split()}
    assert {f"{row.macs:,}" for row in layers} | {f"{row.params:,}" for row in layers} <= shown
