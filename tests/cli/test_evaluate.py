from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision
from typer.testing import Result

from cifarzoo import Run, save_weights

Call = Callable[..., Result]


def test_score_equals_that_of_the_run(call: Call, trained: Path) -> None:
    options = ("--weights", trained / "weights.safetensors", "--limit", "100", "--json")
    result = call("evaluate", "report_baseline", *options)
    record, run = json.loads(result.stdout), json.loads((trained / "run.json").read_text())
    assert record["data"] == "shapes"  # from the weights' metadata
    assert record["test"] == run["test"] | {"class_names": record["classes"]}
    assert record["test_tta"] is None
    both = json.loads(call("evaluate", "report_baseline", *options, "--tta", "flip").stdout)
    assert both["test"] == record["test"]
    assert both["test_tta"]["tta"] == "flip"
    assert len(both["classes"]) == len(both["test"]["per_class"]) == 10


def test_tables_show_every_class(call: Call, trained: Path) -> None:
    weights = trained / "weights.safetensors"
    options = ("--weights", weights, "--limit", "100", "--tta", "flip")
    result = call("evaluate", "report_baseline", *options)
    lines = result.stdout.splitlines()
    assert lines[0] == f"report_baseline, weights {weights}, on 100 test images of shapes"
    test = Run.load(trained).test
    assert test is not None
    rows = {line.split("  ")[0]: line.split() for line in lines if line}
    assert f"{100 * test.accuracy:.2f}" in rows["single view"]
    assert "flip" in rows
    assert rows["disc"][1] == f"{100 * test.per_class[0]:.2f}"


def test_packaged_weights_are_the_default(call: Call) -> None:
    result = call("evaluate", "tiny_s", "--data", "shapes", "--limit", "20", "--json")
    assert "were trained on cifar10, not on shapes" in result.stderr
    assert json.loads(result.stdout)["weights"] == "standard"


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_weights_of_another_model_are_refused(call: Call, trained: Path, command: str) -> None:
    images = ["x.png"] if command == "predict" else []
    weights = trained / "weights.safetensors"
    result = call(command, "report_best", *images, "--weights", weights, code=1)
    assert "(weights of report_baseline) does not fit" in result.stderr


@pytest.mark.parametrize("kind", ["tag", "file"])
def test_weights_of_a_backbone_are_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    weights: str | Path = "imagenet"
    if kind == "file":
        weights = tmp_path / "backbone.safetensors"
        save_weights(torchvision.models.resnet18(), weights)
    result = call("evaluate", "resnet18_transfer", "--weights", weights, code=1)
    assert f"cifarzoo train resnet18_transfer --weights {weights}" in result.stderr
    assert not (tmp_path / "hub").exists()
