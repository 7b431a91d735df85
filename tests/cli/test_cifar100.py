"""CIFAR-100 on the command line: the weights say which data set they are for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import Result

from cifarzoo import ImageClassifier, Run, build_model, save_weights
from cifarzoo.data import CIFAR100_CLASSES, CIFAR100_SUPERCLASSES, ImageData

Call = Callable[..., Result]


def labelled(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n) % 100


@pytest.fixture
def weights(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights that the command line trained on noise in place of CIFAR-100."""
    data = ImageData(*labelled(200), *labelled(100))
    monkeypatch.setattr("cifarzoo.data.loader.load_cifar100", lambda *_, **__: data)
    options = ("--data", "cifar100", "--epochs", "1", "--batch-size", "60", "--quiet")
    call("train", "report_baseline", *options, "--out", tmp_path / "run")
    assert Run.load(tmp_path / "run").model.class_names == CIFAR100_CLASSES
    return tmp_path / "run" / "weights.safetensors"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "blue.png")
    return tmp_path / "blue.png"


def test_trained_weights_need_no_further_options(call: Call, weights: Path, image: Path) -> None:
    options = ("report_baseline", "--weights", weights, "--json")
    score = json.loads(call("evaluate", *options).stdout)
    test = Run.load(weights.parent).test
    assert test is not None
    assert (score["data"], score["test"]["accuracy"]) == ("cifar100", test.accuracy)
    assert score["classes"] == [*CIFAR100_CLASSES]
    found = json.loads(call("predict", *options, image, "--top", "100").stdout)
    assert found["data"] == "cifar100"
    (entry,) = found["images"]
    assert {each["class"] for each in entry["predictions"]} == {*CIFAR100_CLASSES}
    side = f"report_baseline:{weights}"
    compared = json.loads(call("compare", side, side, "--json").stdout)["comparison"]
    assert compared["accuracy_a"] == test.accuracy


def test_another_number_of_classes_is_refused(call: Call, weights: Path, image: Path) -> None:
    options = ("report_baseline", "--weights", weights, "--data", "shapes")
    shapes = "100 classes and the data 10 (disc to"
    assert shapes in call("evaluate", *options, "--limit", "20", code=2).stderr
    assert "100 classes and shapes 10" in call("predict", *options, image, code=2).stderr
    sides = (f"report_baseline:{weights}",) * 2
    assert shapes in call("compare", *sides, *options[3:], "--limit", "20", code=2).stderr
    mixed = call("compare", "report_baseline", sides[0], code=2)
    assert "the weights are for cifar10 and cifar100" in mixed.stderr
    ten = call("evaluate", "report_baseline", "--data", "cifar100", code=2)
    assert "labels are in 0..99: expected 0..9" in ten.stderr


def test_predictions_have_the_names_that_the_weights_store(
    call: Call, image: Path, tmp_path: Path
) -> None:
    model: ImageClassifier = build_model("report_baseline", num_classes=20)
    path = tmp_path / "superclasses.safetensors"
    for names in (CIFAR100_SUPERCLASSES, None):
        model.class_names = names
        save_weights(model, path, metadata={"data": "custom"})
        options = ("--weights", path, "--top", "20", "--json")
        result = call("predict", "report_baseline", image, *options, code=0 if names else 2)
        if names:
            (entry,) = json.loads(result.stdout)["images"]
            assert {each["class"] for each in entry["predictions"]} == {*names}
        else:
            assert "20 classes and cifar10 10" in result.stderr
