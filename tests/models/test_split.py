from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cifarzoo.errors import OptionError
from cifarzoo.models.backbone import split_frozen, transfer_classifier
from cifarzoo.models.classifier import Preprocess
from cifarzoo.models.split import ModelPart, split_model


def probe(*shape: int) -> Tensor:
    return torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))


def same_bits(model: nn.Module, first: nn.Module, second: nn.Module, inputs: Tensor) -> bool:
    model.eval()
    with torch.no_grad():
        return torch.equal(second(first(inputs)), model(inputs))


def leaves(part: ModelPart) -> set[str]:
    return {name for name, _ in part.named_parameters()}


@pytest.mark.parametrize(
    ("name", "trainable", "head"),
    [
        ("mobilenet_v2", ("features.18", "classifier"), "classifier.1"),
        ("efficientnet_b0", ("features.8", "classifier.1"), "classifier.1"),
        ("densenet121", ("features.denseblock4", "classifier"), "classifier"),
        ("resnet18", ("layer4.1.conv2", "fc"), "fc"),
        ("resnet18", ("layer4", "layer4.1", "fc"), "fc"),
        ("resnet18", ("fc",), "fc"),
    ],
)
def test_torchvisions_networks_split_with_the_same_bits(
    name: str, trainable: tuple[str, ...], head: str
) -> None:
    backbone = torchvision.models.get_model(name, weights=None)
    model = transfer_classifier(
        backbone, preprocess=Preprocess(size=32), trainable=trainable, head=head
    )
    frozen, rest = split_frozen(model)
    assert same_bits(model, frozen, rest, probe(3, 32, 32))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained <= {id(p) for p in rest.parameters()}


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(2, 6), data=st.data())
def test_any_chain_splits_at_its_first_trainable_layer(depth: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, depth - 1))
    layers = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(depth)]
    model = nn.Sequential(nn.Flatten(), *layers)
    names = {first + 1} | set(data.draw(st.lists(st.integers(first + 1, depth))))
    before, after = split_model(model, [str(i) for i in names], probe=probe(1, 2, 2))
    assert same_bits(model, before, after, probe(1, 2, 2))
    assert len(list(before.parameters())) == 4 * first


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.a(inputs)
        total: Tensor = x + self.c(self.b(x))
        return total


def test_the_cut_is_where_one_tensor_is_enough() -> None:
    model = Residual()
    before, after = split_model(model, ["c"], probe=probe(4))  # after b, x would be needed too
    assert leaves(before) == {"body.a.weight", "body.a.bias"}
    assert same_bits(model, before, after, probe(4))


class ShapeAsker(nn.Module):
    """Asks for the batch size in every way, before the cut and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        n, channels, _, _ = images.shape
        torch._assert(channels == 3, "three channels")
        x = self.frozen(images).reshape(images.shape[0], 4, -1).mean(2)
        logits: Tensor = self.head(x).view(images.size(0), -1) + n
        return logits.view(images.size()[0], 2)


def test_the_batch_size_is_not_frozen() -> None:
    model = ShapeAsker()
    before, after = split_model(model, ["head"], probe=probe(3, 6, 6))
    for n in (1, 3, 8):
        assert same_bits(model, before, after, torch.rand(n, 3, 6, 6))
    assert before(torch.rand(2, 3, 6, 6)).shape == (2, 4)


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.b(nn.functional.dropout(self.a(x), 0.5, training=self.training))
        return logits


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.b(self.a(x) if x.sum() > 0 else x)
        return logits


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FunctionalDropout(), r"self\.training .* use nn\.Dropout\(p\)"),
        (Branch(), "cannot be traced .* Or fit the whole model instead"),
    ],
)
def test_what_would_be_wrong_is_refused(model: nn.Module, message: str) -> None:
    mode = model.training
    with pytest.raises(OptionError, match=message):
        split_model(model, ["b"], probe=probe(4))
    assert model.training is mode


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)
    )
    before, after = split_model(model, ["1", "4"], probe=probe(4))
    before.train(), after.train()
    assert [model[i].training for i in range(5)] == [False, True, False, False, True]
    after.eval()
    assert not any(module.training for module in after.modules())


def test_the_mode_is_left_as_it_was() -> None:
    for mode in (True, False):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).train(mode)
        split_model(model, ["1"], probe=probe(4))
        assert all(module.training is mode for module in model.modules())
    model = nn.Sequential(nn.BatchNorm1d(4).eval(), nn.Linear(4, 2))
    split_model(model, ["1"], probe=probe(4))
    assert [module.training for module in model.modules()] == [True, False, True]


def test_parts_can_be_copied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    _, after = split_model(model, ["2"], probe=probe(4))
    twin = copy.deepcopy(after).train()
    assert twin.trainable == ("2",)
    with torch.no_grad():
        torch.testing.assert_close(twin(probe(4)), after(probe(4)))
