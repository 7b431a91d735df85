"""Exported files compute what the model computes, without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

import cifarzoo as zoo
from cifarzoo.errors import CifarZooError, MissingExtraError
from cifarzoo.export import OPSET, Exported, to_onnx, to_onnx_int8, to_torch_export
from cifarzoo.weights import PRETRAINED

PAGE = Path(__file__).parents[1] / "docs/howto/export.md"
BATCHES = (1, 2, 7, 256)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def trained() -> zoo.ImageClassifier:
    return zoo.build_model("tiny_s", weights="default")


@pytest.fixture(scope="module")
def exported(trained: zoo.ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return to_onnx(trained, tmp_path_factory.mktemp("exported") / "tiny_s.onnx")


def run(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path)
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def pixels(n: int, kind: str = "uint8") -> Tensor:
    values = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
    return values if kind == "uint8" else values / 255


@torch.no_grad()
def largest_difference(model: zoo.ImageClassifier, path: Path, kind: str) -> float:
    batches = [pixels(n, kind) for n in BATCHES]
    return max(float((run(path, each) - model(each)).abs().max()) for each in batches)


def test_onnx_file_has_the_model_s_logits_for_any_batch(
    trained: zoo.ImageClassifier, exported: Exported
) -> None:
    assert exported.largest_difference is not None
    assert exported.largest_difference < 1e-5
    assert largest_difference(trained, exported.path, "uint8") < 1e-5
    assert [path.name for path in exported.path.parent.iterdir()] == ["tiny_s.onnx"]


def test_file_says_what_it_contains(trained: zoo.ImageClassifier, exported: Exported) -> None:
    (weights,) = zoo.model_card("tiny_s").weights
    session = onnxruntime.InferenceSession(exported.path)
    found = session.get_modelmeta().custom_metadata_map
    assert found == dict(exported.metadata)
    assert tuple(json.loads(found["classes"])) == trained.class_names
    assert (found["model"], found["recipe"], found["data"]) == ("tiny_s", weights.tag, "cifar10")
    assert float(found["accuracy"]) == pytest.approx(weights.accuracy, abs=1e-4)
    assert len(found["weights_sha256"]) == 64
    (domain,) = (each for each in onnx.load(exported.path).opset_import if not each.domain)
    assert domain.version == OPSET


def test_changed_weights_have_no_accuracy(tmp_path: Path) -> None:
    model = zoo.build_model("tiny_s", weights="default")
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert "accuracy" not in to_torch_export(model, tmp_path / "a.pt2").metadata


def test_floats_fixed_batches_and_half_precision(
    model: zoo.ImageClassifier, tmp_path: Path
) -> None:
    model.train()
    options: dict[str, Any] = {"batch": 3, "images": "float"}
    fixed = to_onnx(model, tmp_path / "fixed.onnx", **options)
    half = to_onnx(model, tmp_path / "half.onnx", dtype="float16", **options)
    assert model.training
    assert next(model.parameters()).dtype == torch.float32
    images = pixels(3, "float")
    with torch.no_grad():
        expected = model.eval()(images)
    torch.testing.assert_close(run(fixed.path, images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(run(half.path, images), expected, atol=0.02, rtol=0)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(fixed.path, images[:2])


def test_int8_file_is_smaller_and_scored(trained: zoo.ImageClassifier, tmp_path: Path) -> None:
    data = zoo.shapes_loaders(n_train=400, n_test=100)
    found = to_onnx_int8(trained, tmp_path / "tiny_s.onnx", data)
    session = onnxruntime.InferenceSession(found.path)
    assert found.test is not None
    assert found.test.accuracy == zoo.evaluate(session, data.test).accuracy
    assert found.metadata["quantization"] == "int8"
    assert float(found.metadata["accuracy"]) == found.test.accuracy
    kinds = [each.data_type for each in onnx.load(found.path).graph.initializer if each.dims]
    assert onnx.TensorProto.INT8 in kinds


def test_torch_program_has_the_model_s_logits(trained: zoo.ImageClassifier, tmp_path: Path) -> None:
    found = to_torch_export(trained, tmp_path / "tiny_s.pt2")
    assert found.largest_difference == 0
    extra = {"metadata.json": ""}
    program = torch.export.load(found.path, extra_files=extra).module()
    assert json.loads(extra["metadata.json"]) == found.metadata
    with torch.no_grad():
        for n in BATCHES:
            torch.testing.assert_close(program(pixels(n)).shape, (n, 10))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.pt", {}, ["a.pt", "*.onnx"]),
        ("folder.onnx", {}, ["folder.onnx", "a folder"]),
        ("a.onnx", {"batch": 0}, ["batch", "0"]),
        ("a.onnx", {"batch": "many"}, ["batch", "many"]),
        ("a.onnx", {"images": "int8"}, ["images", "int8"]),
        ("a.onnx", {"dtype": "int8"}, ["dtype", "int8"]),
    ],
)
def test_bad_arguments_are_refused(
    model: zoo.ImageClassifier,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    words: list[str],
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(CifarZooError) as caught:
        to_onnx(model, tmp_path / name, **options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_missing_libraries_are_named(
    model: zoo.ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"cifarzoo\[export\]"):
        to_onnx(model, tmp_path / "a.onnx")


def test_without_a_runtime_the_file_is_not_compared(
    model: zoo.ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert to_onnx(model, tmp_path / "a.onnx").largest_difference is None


def test_program_in_the_guide_classifies_a_jpeg_without_torch(
    trained: zoo.ImageClassifier, exported: Exported, tmp_path: Path
) -> None:
    image = Image.fromarray(
        np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8)
    )
    image.save(tmp_path / "cat.jpg")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (program,) = (block for block in blocks if "InferenceSession" in block)
    assert len(program.split("\n\n", 2)[-1].splitlines()) <= 10
    program = program.replace("resnet20.onnx", str(exported.path))
    blocked = "import sys\nsys.modules['torch'] = sys.modules['cifarzoo'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = zoo.predict(trained, tmp_path / "cat.jpg")
    name, probability = done.stdout.split()
    assert name == found.names[0]
    assert float(probability) == pytest.approx(float(found.probabilities.max()), abs=0.01)


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize(
    "name", sorted({path.name.split("-")[0] for path in PRETRAINED.glob("*.safetensors")})
)
def test_every_model_has_the_same_logits_and_accuracy(
    name: str, kind: Literal["uint8", "float"], tmp_path: Path, real_root: Path
) -> None:
    model = zoo.build_model(name, weights="default")
    found = to_onnx(model, tmp_path / "a.onnx", images=kind)
    assert largest_difference(model, found.path, kind) < 1e-4
    test = zoo.cifar10_loaders(root=real_root).test
    accuracy = zoo.evaluate(onnxruntime.InferenceSession(found.path), test).accuracy
    weights = zoo.model_card(name).weights_for("default")
    assert weights is not None
    assert accuracy == pytest.approx(weights.accuracy, abs=2e-4)
