"""Exported files compute what the model computes, without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo.errors import (
    CifarZooError,
    InvalidTypeError,
    InvalidValueError,
    MissingExtraError,
)
from cifarzoo.export import OPSET, Exported, to_onnx, to_onnx_int8, to_torch_export
from cifarzoo.weights import PRETRAINED

PAGE = Path(__file__).parents[1] / "docs/howto/export.md"
BATCHES = (1, 2, 7, 256)
QUICK = ("tiny_s",)  # the others take minutes


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


def test_files_do_not_name_paths_of_this_machine(
    trained: zoo.ImageClassifier, exported: Exported, tmp_path: Path
) -> None:
    folder = str(Path(zoo.__file__).parent).encode()
    assert folder not in exported.path.read_bytes()
    program = to_torch_export(trained, tmp_path / "tiny_s.pt2").path  # stored, not compressed
    assert folder not in program.read_bytes()


def test_changed_weights_have_no_accuracy(tmp_path: Path) -> None:
    model = zoo.build_model("tiny_s", weights="default")
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert "accuracy" not in to_torch_export(model, tmp_path / "a.pt2").metadata


def test_the_accuracy_is_that_of_the_file(trained: zoo.ImageClassifier, tmp_path: Path) -> None:
    data = zoo.Loaders(zoo.shapes_loaders(n_train=100, n_test=10).train)
    for found in (
        to_onnx(trained, tmp_path / "half.onnx", dtype="float16"),
        to_onnx_int8(trained, tmp_path / "int8.onnx", data),
    ):
        assert "accuracy" not in found.metadata
        assert len(found.metadata["weights_sha256"]) == 64


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
    assert half.metadata["precision"] == "float16"
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
    assert found.metadata["precision"] == "int8"
    assert float(found.metadata["accuracy"]) == found.test.accuracy
    content = onnx.load(found.path)
    kinds = [each.data_type for each in content.graph.initializer if each.dims]
    assert onnx.TensorProto.INT8 in kinds
    assert [(each.domain, each.version) for each in content.opset_import] == [("", OPSET)]
    for n in BATCHES:
        assert run(found.path, pixels(n)).shape == (n, 10)


def test_torch_program_has_the_model_s_logits(trained: zoo.ImageClassifier, tmp_path: Path) -> None:
    found = to_torch_export(trained, tmp_path / "tiny_s.pt2")
    assert found.largest_difference == 0
    extra = {"metadata.json": ""}
    program = torch.export.load(found.path, extra_files=extra).module()
    assert json.loads(extra["metadata.json"]) == found.metadata
    with torch.no_grad():
        for images in map(pixels, BATCHES):
            torch.testing.assert_close(program(images), trained(images), atol=1e-5, rtol=0)


def test_networks_for_another_size_take_that_size(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 10))
    for size, side in ((None, 48), (48, 32)):
        model = zoo.ImageClassifier(zoo.Preprocess(size=size), head, image_size=48)
        found = to_onnx(model, tmp_path / "a.onnx")
        (declared,) = onnxruntime.InferenceSession(found.path).get_inputs()
        assert declared.shape[2:] == [side, side]
        assert found.largest_difference is not None
        assert found.largest_difference < 1e-5


class Pairs(nn.Module):
    """A network for two images, no more and no fewer."""

    @override
    def forward(self, pixels: Tensor) -> Tensor:
        first, second = pixels.mean((2, 3))
        return torch.stack([first, second])


def test_a_network_for_one_batch_size_is_exported_for_that_size_only(tmp_path: Path) -> None:
    model = zoo.ImageClassifier(zoo.Preprocess(), Pairs())
    for export, name in ((to_onnx, "a.onnx"), (to_torch_export, "a.pt2")):
        with pytest.raises(InvalidValueError, match="batch='dynamic'"):
            export(model, tmp_path / name)
        assert not (tmp_path / name).exists()
        assert export(model, tmp_path / name, batch=2).largest_difference == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.pt", {}, ["a.pt", "*.onnx"]),
        ("folder.onnx", {}, ["folder.onnx", "a folder"]),
        ("a.onnx", {"batch": 0}, ["batch is 0", "'dynamic'"]),
        ("a.onnx", {"batch": True}, ["batch is True", "'dynamic'"]),
        ("a.onnx", {"batch": 1.5}, ["batch is 1.5", "'dynamic'"]),
        ("a.onnx", {"batch": "many"}, ["batch is 'many'", "'dynamic'"]),
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


def test_a_bare_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTypeError, match=r"Flatten.*ImageClassifier"):
        to_onnx(nn.Flatten(), tmp_path / "a.onnx")  # type: ignore[arg-type]


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


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.weights)
        for name in sorted({path.name.split("-")[0] for path in PRETRAINED.glob("*.safetensors")})
    ],
)
def test_every_model_keeps_its_accuracy(name: str, tmp_path: Path, real_root: Path) -> None:
    model, loaders = zoo.build_model(name, weights="default"), zoo.cifar10_loaders(root=real_root)
    weights = zoo.model_card(name).weights_for("default")
    assert weights is not None
    for kind in ("uint8", "float"):
        found = to_onnx(model, tmp_path / f"{kind}.onnx", images=kind)
        assert largest_difference(model, found.path, kind) < 1e-4
        accuracy = zoo.evaluate(onnxruntime.InferenceSession(found.path), loaders.test).accuracy
        assert accuracy == pytest.approx(weights.accuracy, abs=2e-4)
    int8 = to_onnx_int8(model, tmp_path / "int8.onnx", loaders)
    assert int8.test is not None
    if zoo.count_params(model) > 1_000_000:
        assert int8.test.accuracy > weights.accuracy - 0.005
        assert int8.path.stat().st_size < 0.3 * found.path.stat().st_size
