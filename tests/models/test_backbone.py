from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, WeightsError
from cifarzoo.models.backbone import split_frozen, transfer_classifier
from cifarzoo.models.classifier import Preprocess


class Backbone(nn.Module):
    """Two blocks with batch norm, a dropout and a head, as most backbones are made."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(6, classes))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.stage(self.stem(images)).mean((2, 3)).view(images.size(0), -1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


make = functools.partial(
    transfer_classifier,
    preprocess=Preprocess(),
    trainable=("stage", "classifier.1"),
    head="classifier.1",
)


def trainable_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_what_is_named_is_trainable() -> None:
    assert trainable_names(make(Backbone())) == {
        "network.stage.0.weight",
        "network.stage.0.bias",
        "network.stage.1.weight",
        "network.stage.1.bias",
        "network.classifier.1.weight",
        "network.classifier.1.bias",
    }


def test_the_head_is_new_and_the_rest_is_kept() -> None:
    backbone = Backbone()
    stem = backbone.state_dict()["stem.0.weight"].clone()
    model = make(backbone, num_classes=7)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert model.network is backbone
    torch.testing.assert_close(backbone.state_dict()["stem.0.weight"], stem)


def test_training_mode_reaches_only_what_is_named() -> None:
    model = make(Backbone()).train()
    modes = {name: module.training for name, module in model.network.named_modules() if name}
    live = {"stage", "stage.0", "stage.1", "stage.2", "classifier", "classifier.1"}
    assert {name for name, mode in modes.items() if mode} == live
    assert not any(module.training for module in model.eval().modules())


def test_a_dropout_acts_only_if_it_is_named() -> None:
    images = torch.rand(4, 3, 32, 32)
    quiet = make(Backbone()).train()
    noisy = make(Backbone(), trainable=("dropout", "classifier")).train()
    assert torch.equal(quiet.eval()(images), quiet.eval()(images))
    assert not quiet.train().network.get_submodule("dropout").training
    assert not torch.equal(noisy(images), noisy(images))


def test_frozen_statistics_and_weights_stay() -> None:
    model = make(Backbone()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(torch.rand(8, 3, 32, 32)), torch.arange(8))
        torch.autograd.backward(loss)
        optimizer.step()
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert not any("stem" in name for name in changed)
    assert {"network.stage.1.running_mean", "network.classifier.1.weight"} <= changed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": ("stag", "classifier")}, r"no module 'stag'; did you mean 'stage'\? allow"),
        ({"head": "fc"}, "no module 'fc'; allowed: stem, stage, dropout, classifier, and"),
        ({"trainable": ("stage",)}, r"trainable is \('stage',\); allowed: .* 'classifier.1' among"),
        ({"trainable": ()}, "'classifier.1' among them"),
        ({"trainable": "classifier"}, r"needed are names: \('classifier',\)"),
        ({"trainable": ("",), "head": "stage"}, "no module ''"),
        ({"trainable": ("stage",), "head": "stage"}, "'stage' is a Sequential; needed is an nn.L"),
        ({"num_classes": 0}, "num_classes is 0; allowed: 1 or more"),
    ],
)
def test_wrong_names_are_refused_and_the_backbone_is_left_alone(
    options: dict[str, object], message: str
) -> None:
    backbone = Backbone()
    with pytest.raises(OptionError, match=message):
        make(backbone, **options)  # type: ignore[arg-type]
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.state_dict()["classifier.1.bias"].shape == (1000,)


def test_a_backbones_weights_load_without_its_head() -> None:
    torch.manual_seed(0)
    source, model = Backbone(), make(Backbone())
    head = model.network.get_submodule("classifier.1")
    kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    model.load_backbone(source.state_dict())
    torch.testing.assert_close(
        model.network.get_submodule("stem").state_dict(), source.stem.state_dict()
    )
    torch.testing.assert_close(head.state_dict(), kept)
    headless = {k: v for k, v in source.state_dict().items() if "classifier" not in k}
    model.load_backbone(headless)


def test_a_backbone_that_does_not_fit_is_refused_and_nothing_changes() -> None:
    model = make(Backbone())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = Backbone().state_dict()
    state["stem.0.weight"] = torch.zeros(5, 3, 3, 3)
    state["extra"] = state.pop("stage.0.bias")
    with pytest.raises(WeightsError) as caught:
        model.load_backbone(state, source="a.pth")
    message = str(caught.value)
    assert "a.pth does not fit the model: missing stage.0.bias; unexpected extra" in message
    assert "stem.0.weight has shape (5, 3, 3, 3), needed is (4, 3, 3, 3)" in message
    torch.testing.assert_close(model.state_dict(), before)


def test_fitting_the_second_part_trains_the_model() -> None:
    model = make(Backbone(), trainable=("stage", "dropout", "classifier")).train()
    frozen, trainable = split_frozen(model)
    assert model.training
    trainable.train()
    assert model.network.get_submodule("stage.1").training
    images = torch.rand(8, 3, 32, 32)
    loss = nn.functional.cross_entropy(trainable(frozen(images)), torch.arange(8))
    torch.autograd.backward(loss)
    torch.optim.SGD(trainable.parameters(), lr=0.1).step()
    model.eval(), trainable.eval()
    with torch.no_grad():
        assert torch.equal(trainable(frozen(images)), model(images))
