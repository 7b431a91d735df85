"""The models in timm have the logits of `build_model`, on images that timm normalised."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

import cifarzoo.timm  # noqa: F401 - registers the models
from cifarzoo import build_model, list_models, model_card
from cifarzoo.data import CLASSES
from cifarzoo.errors import InvalidValueError, MissingExtraError, WeightsError
from cifarzoo.models.classifier import CIFAR10_MEAN, CIFAR10_STD

TAGGED = [f"{n}.{each.tag}" for n in list_models() for each in model_card(n).weights]


def pixels(n: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)


def create(name: str, **options: Any) -> Any:  # noqa: ANN401 - a module with timm's attributes
    return timm.create_model(f"cifarzoo_{name}", **options)


def transformed(network: nn.Module) -> Tensor:
    """Return the images as timm's transform prepares them for the network."""
    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)
    arrays = pixels().permute(0, 2, 3, 1).numpy()
    return torch.stack([transform(Image.fromarray(np.ascontiguousarray(a))) for a in arrays])


@pytest.mark.parametrize("name", TAGGED)
def test_logits_are_those_of_build_model(name: str) -> None:
    network = create(name, pretrained=True).eval()
    model = build_model(name.partition(".")[0], weights=name.partition(".")[2])
    with torch.no_grad():
        expected = model(pixels())
        torch.testing.assert_close(network(transformed(network)), expected, rtol=0, atol=1e-4)


def test_default_weights_are_those_of_build_model() -> None:
    network = create("resnet20", pretrained=True).eval()
    model = build_model("resnet20", weights="default")
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_configuration_describes_data_and_head() -> None:
    network = create("resnet20")
    cfg = network.pretrained_cfg
    assert cfg["mean"] == pytest.approx(CIFAR10_MEAN)
    assert cfg["std"] == pytest.approx(CIFAR10_STD)
    assert (cfg["input_size"], cfg["num_classes"], network.num_classes) == ((3, 32, 32), 10, 10)
    assert (cfg["label_names"], cfg["tag"]) == (CLASSES, "long")
    assert isinstance(network.get_submodule(cfg["classifier"]), nn.Linear)
    assert set(timm.list_pretrained("cifarzoo_*")) == {f"cifarzoo_{name}" for name in TAGGED}


@pytest.mark.parametrize("name", ["tiny_s", "sprint_s", "report_model2"])
def test_other_number_of_classes_gets_a_new_head(name: str) -> None:
    network = create(name, pretrained=True, num_classes=3)
    head = network.pretrained_cfg["classifier"]
    for key, tensor in build_model(name, weights="default").network.state_dict().items():
        same = network.state_dict()[key].shape == tensor.shape
        assert same != key.startswith(head)
        assert key.startswith(head) or torch.equal(network.state_dict()[key], tensor)
    assert network.num_classes == 3


def test_weights_saved_by_timm_load_again(tmp_path: Path) -> None:
    network = create("tiny_s")
    torch.save(network.state_dict(), tmp_path / "a.pth")
    again = create("tiny_s", checkpoint_path=str(tmp_path / "a.pth"))
    other = {"file": str(tmp_path / "a.pth")}
    third = create("tiny_s", pretrained=True, pretrained_cfg_overlay=other)
    for each in (again, third):
        for key, tensor in network.state_dict().items():
            assert torch.equal(each.state_dict()[key], tensor)


def test_changed_file_and_unsupported_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match="in_chans is 1: expected 3"):
        create("tiny_s", in_chans=1)
    with pytest.raises(RuntimeError, match="tag"):
        create("tiny_s.none", pretrained=True)
    monkeypatch.setattr("cifarzoo.weights.sha256_of", lambda _: "0" * 64)
    with pytest.raises(WeightsError, match="expected SHA-256"):
        create("tiny_s", pretrained=True)


def test_missing_timm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.models", None)
    monkeypatch.delitem(sys.modules, "cifarzoo.timm")
    with pytest.raises(MissingExtraError, match=r"cifarzoo\[timm\]"):
        importlib.import_module("cifarzoo.timm")


def test_import_alone_registers_the_models() -> None:
    code = "import cifarzoo.timm, timm; print(timm.create_model('cifarzoo_tiny_s').num_classes)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10"
