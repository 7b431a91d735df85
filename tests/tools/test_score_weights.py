"""The tool measures every score on the images that it names, and writes a record."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import cifarzoo as zoo
from cifarzoo.data.loader import TensorLoaders
from cifarzoo.evaluation.corruptions import CORRUPTIONS, corrupt
from cifarzoo.record import read_scores
from cifarzoo.weights import PRETRAINED, packaged_weights, scores_file

NAME = "report_baseline"
N_TEST = 60


@pytest.fixture
def shapes() -> TensorLoaders:
    return zoo.shapes_loaders(n_train=200, n_test=N_TEST, recipe=zoo.model_card(NAME).recipe)


@pytest.fixture
def tool(
    load_script: Callable[[str], ModuleType],
    shapes: TensorLoaders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    """The script, with shapes in place of CIFAR-10, noise in place of CIFAR-100, and few images."""
    module = load_script("tools/score_weights.py")
    monkeypatch.setattr(zoo, "cifar10_loaders", lambda **_: shapes)
    monkeypatch.setattr(module, "CORRUPTION_IMAGES", 6)
    monkeypatch.setattr(module, "PGD_IMAGES", 4)
    source = SimpleNamespace(commit="da19027", dirty=False)
    described = module.provenance("cpu", "float32")
    monkeypatch.setattr(module, "provenance", lambda *place: described if place else source)
    pixels = np.random.default_rng(0).integers(256, size=(30, 3072), dtype=np.uint8)
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "test").write_bytes(pickle.dumps({b"data": pixels}))
    (tmp_path / "duplicates.csv").write_text("TestID,TrainID,Distance,Judgment\n3,1,0.1,1\n")
    return module


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    duplicates = str(tmp_path / "duplicates.csv")
    return [NAME, "--duplicates", duplicates, "--data", str(tmp_path), "--device", "cpu"]


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of one model's weights and records."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    for path in PRETRAINED.glob(f"{NAME}-*"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("cifarzoo.weights.PRETRAINED", folder)
    return folder


def test_scores_are_written_next_to_the_weights_and_on_the_card(
    tool: ModuleType, arguments: list[str], pretrained: Path, shapes: TensorLoaders
) -> None:
    tool.main(arguments)
    (weights,) = packaged_weights(NAME)
    scores = weights.scores
    assert scores is not None
    assert scores.weights_sha256 == weights.sha256
    model = zoo.build_model(NAME, weights="default")
    test = shapes.test
    plain = zoo.evaluate(model, test)
    assert scores.calibration_error == pytest.approx(plain.calibration_error)
    kept = [i for i in range(N_TEST) if i != 3]
    unique = zoo.evaluate(model, zoo.TensorLoader(test.images[kept], test.labels[kept]))
    assert (scores.unique_accuracy, scores.unique_images) == (unique.accuracy, N_TEST - 1)
    assert scores.temperature_images == "the first 20 validation images"
    assert tuple(scores.corruptions) == CORRUPTIONS
    order = torch.randperm(N_TEST, generator=torch.Generator().manual_seed(0))[:6]
    images, labels = corrupt(test.images[order], "snow", 2), test.labels[order]
    expected = zoo.evaluate(model, zoo.TensorLoader(images, labels)).accuracy
    assert scores.corruptions["snow"][1] == expected
    assert scores.by_corruption["snow"] == pytest.approx(sum(scores.corruptions["snow"]) / 5)
    assert (scores.corruption_images, scores.pgd_images) == (6, 4)
    row = ("weights 'standard': calibration error", f"{plain.calibration_error:.2%}")
    assert row in zoo.model_card(NAME).table().rows


def test_scores_of_replaced_weights_do_not_count(
    tool: ModuleType, arguments: list[str], pretrained: Path
) -> None:
    tool.main(arguments)
    path = scores_file(NAME, "standard")
    path.write_text(replace(read_scores(path), weights_sha256="0" * 64).to_json())
    assert packaged_weights(NAME)[0].scores is None


def test_temperature_of_weights_without_validation_images_is_fitted_on_training_images(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders = zoo.shapes_loaders(n_train=200, n_test=10, val_fraction=0)
    monkeypatch.setattr(zoo, "cifar10_loaders", lambda **_: loaders)
    found, description = tool._temperature_images(zoo.Recipe(val_fraction=0), None, 50)
    assert description.startswith("the first 50 training images, flipped and shifted")
    assert torch.equal(found.images, loaders.train.images[:50])
    (batch, labels), *_ = found
    assert torch.equal(labels, loaders.train.labels[:50])
    assert not torch.equal(batch, loaders.train.images[:50] / 255)


def test_limit_writes_nothing(tool: ModuleType, arguments: list[str], pretrained: Path) -> None:
    before = {path.name for path in pretrained.iterdir()}
    tool.main([*arguments, "--limit", "5"])
    assert {path.name for path in pretrained.iterdir()} == before


def test_missing_files_are_named(
    tool: ModuleType, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="limit"):
        tool.main([*arguments, "--limit", "0"])
    (tmp_path / "duplicates.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"duplicates\.csv is not ciFAIR's"):
        tool.main(arguments)
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(SystemExit, match=r"test does not exist: .* CIFAR-100"):
        tool.main(arguments)
    monkeypatch.setattr(tool, "provenance", lambda: SimpleNamespace(commit="a", dirty=True))
    with pytest.raises(SystemExit, match="git checkout"):
        tool.main(arguments)
