"""Weights of other projects' residual networks give the outputs of those projects' modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorchcv.model_provider import get_model
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import override

from cifarzoo import build_model, load_weights
from cifarzoo.data import CIFAR100_CLASSES, CLASSES
from cifarzoo.errors import WeightsError
from cifarzoo.weights import read_state_dict

CHENYAOFO, AKAMASTER = "fc", "linear"  # the names of their last layers
COMMON = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR100 = ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))

Constants = tuple[tuple[float, ...], tuple[float, ...]]


class Block(nn.Module):
    """Basic block of arXiv 1512.03385 with torchvision's names."""

    def __init__(self, inputs: int, outputs: int, stride: int, head: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.quarter = outputs // 4 if inputs != outputs else 0
        if head == CHENYAOFO and inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        elif self.quarter:  # akamaster's option A: zeros before and after the channels
            x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.quarter, self.quarter))
        out: Tensor = (x + y).relu()
        return out


class ResNet(nn.Module):
    """CIFAR ResNet with the names of chenyaofo's or akamaster's project."""

    def __init__(self, depth: int, head: str, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for i, (outputs, stride) in enumerate([(16, 1), (32, 2), (64, 2)], 1):
            blocks = [Block(inputs, outputs, stride, head)]
            blocks += [Block(outputs, outputs, 1, head) for _ in range((depth - 2) // 6 - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
            inputs = outputs
        self.add_module(head, nn.Linear(64, classes))
        self.head = head

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        for i in (1, 2, 3):
            x = self.get_submodule(f"layer{i}")(x)
        logits: Tensor = self.get_submodule(self.head)(x.mean(dim=(2, 3)))
        return logits


def randomize(network: nn.Module) -> nn.Module:
    """Draw the parameters and statistics of the batch norms, so that none has its default."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def assert_same_logits(path: Path, theirs: nn.Module, constants: Constants) -> None:
    """Compare with their network on images that were normalised in their way."""
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in constants)
    model = load_weights(path)
    assert not model.training
    with torch.no_grad():
        expected = theirs((images / 255 - mean) / std)
        tolerance = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(model(images), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
@pytest.mark.parametrize(("head", "constants"), [(CHENYAOFO, COMMON), (AKAMASTER, IMAGENET)])
def test_names_of_chenyaofo_and_akamaster(
    tmp_path: Path, depth: int, head: str, constants: Constants
) -> None:
    theirs = randomize(ResNet(depth, head))
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    assert_same_logits(tmp_path / "a.pt", theirs, constants)


@pytest.mark.parametrize("name", ["resnet20_cifar10", "resnet56_cifar10", "resnet20_cifar100"])
def test_names_of_pytorchcv(tmp_path: Path, name: str) -> None:
    theirs = randomize(get_model(name, pretrained=False))
    save_file(theirs.state_dict(), tmp_path / "a.safetensors")
    assert_same_logits(tmp_path / "a.safetensors", theirs, COMMON)


def test_checkpoint_of_akamaster(tmp_path: Path) -> None:
    """Their files were written by old versions of torch, from a network in `DataParallel`."""
    theirs = randomize(ResNet(20, AKAMASTER))
    state = {f"module.{n}": t for n, t in theirs.state_dict().items() if "num_batches" not in n}
    stored = {"epoch": 7, "state_dict": state, "best_prec1": torch.tensor(91.73)}
    torch.save(stored, tmp_path / "a.th", _use_new_zipfile_serialization=False)
    assert_same_logits(tmp_path / "a.th", theirs, IMAGENET)


def test_hundred_classes_have_their_names_and_constants(tmp_path: Path) -> None:
    theirs = randomize(ResNet(20, CHENYAOFO, classes=100))
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    assert_same_logits(tmp_path / "a.pt", theirs, CIFAR100)
    assert load_weights(tmp_path / "a.pt").class_names == CIFAR100_CLASSES
    torch.save(ResNet(20, CHENYAOFO).state_dict(), tmp_path / "a.pt")
    assert load_weights(tmp_path / "a.pt").class_names == CLASSES
    torch.save(ResNet(20, CHENYAOFO, classes=7).state_dict(), tmp_path / "a.pt")
    assert load_weights(tmp_path / "a.pt").class_names is None


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "bottlenecks": lambda: get_model("resnet164bn_cifar10", pretrained=False),
    "pre-activation": lambda: get_model("preresnet20_cifar10", pretrained=False),
    "ours": lambda: build_model("resnet20"),
    "no head": lambda: nn.Sequential(),
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_names_are_refused(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    torch.save(make().state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"unknown names.*chenyaofo.*build_model\(name"):
        load_weights(tmp_path / "a.pth")


def test_incomplete_and_unsuitable_tensors_are_refused(tmp_path: Path) -> None:
    state = ResNet(20, CHENYAOFO).state_dict()
    wrong: dict[str, dict[str, Tensor | None]] = {
        r"stage3\.2\.second\.conv\.weight is missing": {"layer3.2.conv2.weight": None},
        r"stage1\.0\.shortcut\.conv\.weight is unexpected": {
            "layer1.0.downsample.0.weight": torch.zeros(16, 16, 1, 1)
        },
        r"stem\.conv\.weight: expected shape \[16, 3": {"conv1.weight": torch.zeros(64, 3, 3, 3)},
        "contains NaN": {"fc.bias": torch.full((10,), torch.nan)},
    }
    for message, changes in wrong.items():
        changed = {n: t for n, t in {**state, **changes}.items() if t is not None}
        torch.save(changed, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=f"a.pth does not fit the model: .*{message}"):
            load_weights(tmp_path / "a.pth")


def test_build_model_refers_to_load_weights(tmp_path: Path) -> None:
    torch.save(ResNet(20, AKAMASTER).state_dict(), tmp_path / "a.th")
    with pytest.raises(WeightsError, match=r"by load_weights\(path\)$"):
        build_model("resnet20", weights=tmp_path / "a.th")
    assert "linear.weight" in read_state_dict(tmp_path / "a.th")


@pytest.mark.parametrize("path", ["a", 3], ids=["missing", "wrong type"])
def test_a_file_is_required(path: str) -> None:
    with pytest.raises((WeightsError, TypeError), match="expected"):
        load_weights(path)
