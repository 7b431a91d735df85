from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torchvision
from typer.testing import Result

from cifarzoo import build_model, save_weights
from cifarzoo.weights.notes import notes_on

Call: TypeAlias = Callable[..., Result]


def test_score_is_that_of_the_training(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    options = ("--weights", weights, "--limit", "100", "--precision", "auto", "--json")
    result = call("evaluate", "report_baseline", *options)  # in the precision of the training
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    at_training = json.loads((trained / "run.json").read_text())["scores"]["test"]
    assert record["data"] == "shapes"  # known from the weights
    assert record["tta"] is None
    assert at_training.pop("tta") == "none"
    assert {key: record[key] for key in at_training} == at_training
    assert sum(map(sum, record["confusion"])) == record["n"] == 100


def test_views_stand_beside_the_single_view(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    options = ("evaluate", "report_baseline", "--weights", weights, "--limit", "100", "--json")
    plain = json.loads(call(*options).stdout)
    both = json.loads(call(*options, "--tta", "flip_translate").stdout)
    views = both.pop("tta")
    assert plain.pop("tta") is None
    assert both == plain
    assert views["name"] == "flip_translate"
    assert views["interval"][0] < views["accuracy"] < views["interval"][1]
    assert views["loss"] != both["loss"]


def test_table_shows_every_class(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    result = call("evaluate", "report_baseline", "--weights", weights, "--limit", "50")
    lines = result.stdout.splitlines()
    assert lines[0] == f"report_baseline, weights {weights}, on the first 50 test images of shapes"
    assert lines[2].split("  ")[-1] == "calibration error"
    first = [line.split()[0] for line in lines if line]
    assert first[1:4] == ["accuracy", "single", "class"]
    assert {"disc", "star", "pair"} <= set(first)


def test_table_has_a_row_for_the_views(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    result = call(
        "evaluate", "report_baseline", "--weights", weights, "--limit", "50", "--tta", "flip"
    )
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[3:5]] == ["single view", "flip"]
    assert lines[6] == "classes, single view"


def test_model_without_weights_says_how_to_train_it(call: Call) -> None:
    result = call("evaluate", "resnet18_transfer")
    assert result.exit_code == 1
    assert "cifarzoo train resnet18_transfer" in result.stderr


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_weights_of_another_model_are_named(call: Call, trained: Path, command: str) -> None:
    weights = trained / "weights.safetensors"
    images = ["x.png"] if command == "predict" else []
    result = call(command, "report_best", *images, "--weights", weights)
    assert result.exit_code == 1
    assert "holds weights of report_baseline, not of report_best" in result.stderr


def test_damaged_weights_are_named(call: Call, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"\x00" * 20)
    result = call("evaluate", "report_baseline", "--weights", weights, "--limit", "50")
    assert result.exit_code == 1
    assert "weights.safetensors is not a whole safetensors file" in result.stderr


def test_other_data_than_the_weights_know_is_remarked(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    result = call(
        "evaluate",
        "report_baseline",
        "--weights",
        trained / "weights.safetensors",
        "--data",
        "cifar10",
        "--root",
        tmp_path,
        "--no-download",
    )
    assert result.exit_code == 1
    assert "were trained on shapes, not on cifar10" in result.stderr


@pytest.mark.parametrize("kind", ["tag", "file"])
def test_weights_of_a_backbone_alone_are_not_scored(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    weights: str | Path = "imagenet"
    if kind == "file":
        weights = tmp_path / "backbone.safetensors"
        save_weights(torchvision.models.resnet18(), weights)
    result = call("evaluate", "resnet18_transfer", "--weights", weights)
    assert result.exit_code == 1
    assert f"{weights} holds weights of resnet18_transfer's backbone alone" in result.stderr
    assert f"`cifarzoo train resnet18_transfer --weights {weights}`" in result.stderr
    assert not (tmp_path / "hub").exists()


def test_other_data_than_the_packages_weights_know_is_remarked(call: Call) -> None:
    result = call("evaluate", "tiny_s", "--data", "shapes", "--limit", "20")
    assert result.exit_code == 0, result.stderr
    assert "These weights were trained on cifar10, not on shapes." in result.stderr


def test_weights_that_say_another_name_and_fit_are_scored_with_a_remark(
    call: Call, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    notes = notes_on(model="mine", data="shapes")
    save_weights(build_model("report_baseline"), path, metadata=notes)
    result = call("evaluate", "report_baseline", "--weights", path, "--limit", "20")
    assert result.exit_code == 0
    assert "says that it holds weights of mine; they fit report_baseline too" in result.stderr
