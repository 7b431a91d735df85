from __future__ import annotations

import copy
import functools

import pytest
import torch
import torchvision
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.errors import CifarZooError, InvalidValueError
from cifarzoo.models.classifier import Preprocess
from cifarzoo.models.transfer import RESNET18_IMAGENET, resnet18_transfer, transfer_classifier


class Backbone(nn.Module):
    """Two blocks with batch norm, a dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(6, 1000))

    @override
    def forward(self, images: Tensor) -> Tensor:
        features = self.stage(self.stem(images))
        logits: Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits


make = functools.partial(
    transfer_classifier,
    preprocess=Preprocess(),
    trainable=("stage", "classifier.1"),
    head="classifier.1",
)


def parameter_ids(module: nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters() if parameter.requires_grad}


def test_training_changes_only_the_named_modules() -> None:
    model = make(Backbone(), num_classes=7)
    stage, head = (model.network.get_submodule(name) for name in model.trainable)
    assert parameter_ids(model) == parameter_ids(stage) | parameter_ids(head)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    assert model.training
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    logits = model(torch.rand(7, 3, 32, 32))
    torch.autograd.backward(nn.functional.cross_entropy(logits, torch.arange(7)))
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if "stage" in name or "classifier" in name}


def test_dropout_is_active_only_if_it_is_named() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32)
    quiet = make(Backbone(), trainable=("classifier",)).train()
    noisy = make(Backbone(), trainable=("dropout", "classifier")).train()
    assert torch.equal(quiet(images), quiet(images))
    assert not torch.equal(noisy(images), noisy(images))
    assert not any(module.training for module in noisy.eval().modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": ("stag", "classifier")}, "no module 'stag'; did you mean 'stage'"),
        ({"trainable": ("",), "head": "stage"}, "no module ''"),
        ({"trainable": ("stage",)}, "include head 'classifier.1'"),
        ({"trainable": "classifier"}, r"expected a tuple, \('classifier',\)"),
        ({"trainable": ("stage",), "head": "stage"}, "expected an nn.Linear"),
        ({"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_invalid_arguments_leave_the_backbone_unchanged(
    options: dict[str, object], message: str
) -> None:
    backbone = Backbone()
    with pytest.raises(CifarZooError, match=message):
        make(backbone, **options)  # type: ignore[arg-type]
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.get_parameter("classifier.1.bias").shape == (1000,)


@pytest.mark.parametrize(
    ("name", "trainable", "head"),
    [
        ("resnet18", ("layer4", "fc"), "fc"),
        ("resnet18", ("layer4.1.conv2", "fc"), "fc"),
        ("resnet18", ("fc",), "fc"),
        ("mobilenet_v2", ("features.18", "classifier"), "classifier.1"),
        ("efficientnet_b0", ("features.8", "classifier.1"), "classifier.1"),
        ("densenet121", ("features.denseblock4", "classifier"), "classifier"),
    ],
)
def test_the_parts_compute_the_same_bits_as_the_model(
    name: str, trainable: tuple[str, ...], head: str
) -> None:
    torch.manual_seed(0)
    backbone = torchvision.models.get_model(name, weights=None)
    model = transfer_classifier(
        backbone, preprocess=Preprocess(size=32), trainable=trainable, head=head
    ).eval()
    frozen, rest = model.split()
    assert not any(module.training for module in model.modules())
    assert not parameter_ids(frozen)
    assert parameter_ids(model) == parameter_ids(rest)
    assert {n for n, _ in rest.named_parameters()} <= {n for n, _ in model.named_parameters()}
    for n in (1, 3):
        images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.equal(rest(frozen(images)), model(images))


def test_training_the_trainable_part_trains_the_model() -> None:
    model = make(Backbone(), trainable=("stage", "dropout", "classifier"))
    frozen, rest = model.split()
    frozen.train()
    rest.train()
    assert not any(m.training for m in model.network.get_submodule("stem").modules())
    assert all(m.training for m in model.network.get_submodule("stage").modules())
    images = torch.rand(8, 3, 32, 32)
    torch.autograd.backward(nn.functional.cross_entropy(rest(frozen(images)), torch.arange(8)))
    torch.optim.SGD(rest.parameters(), lr=0.1).step()
    model.eval()
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(rest).eval()(frozen(images)), model(images))


class TwoPaths(Backbone):
    @override
    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        logits: Tensor = super().forward(images) + self.stage(x).mean() + x.mean()
        return logits


def test_the_split_is_where_all_paths_meet() -> None:
    model = make(TwoPaths()).eval()
    frozen, rest = model.split()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(frozen(images), model.preprocess(images))
    assert torch.equal(rest(frozen(images)), model(images))


class Branching(Backbone):
    @override
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.mean() > 0 else -images)


def test_a_network_that_cannot_be_traced_is_not_split() -> None:
    with pytest.raises(InvalidValueError, match="cannot trace"):
        make(Branching()).split()


def test_resnet18_transfer_trains_the_last_stage_and_the_head() -> None:
    model = resnet18_transfer()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == 8_393_728 + 5_130


def test_resnet18_weights_and_preprocessing_are_torchvisions() -> None:
    published = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert published.url == RESNET18_IMAGENET.url
    assert RESNET18_IMAGENET.sha256[:8] in RESNET18_IMAGENET.url
    transform, ours = published.transforms(), resnet18_transfer().preprocess
    assert ours.mean.flatten().tolist() == pytest.approx(transform.mean)
    assert ours.std.flatten().tolist() == pytest.approx(transform.std)
    assert ours.size == transform.crop_size[0]
