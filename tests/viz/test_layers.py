from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.viz._layers import find_layer, layer_maps


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.noise = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
        self.unused = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)  # a module may draw numbers in evaluation mode too
        logits: Tensor = self.head(self.noise(self.relu(self.conv(x))))
        return logits


@pytest.fixture
def small() -> Small:
    model = Small()
    model(torch.zeros(1, 3, 6, 6))
    return model


def test_gives_what_the_layer_gives(small: Small) -> None:
    image = torch.rand(3, 6, 6)
    with torch.no_grad():
        expected = small.conv(image[None])[0]
    assert expected.min() < 0
    # Not what the in-place ReLU behind it makes of it.
    torch.testing.assert_close(layer_maps(small, image, "conv"), expected)
    torch.testing.assert_close(layer_maps(small, image, "relu"), expected.relu())


def test_a_classifier_preprocesses_and_takes_short_names(small: Small) -> None:
    model = ImageClassifier(Preprocess((0.5,) * 3, (0.25,) * 3, size=6), small)
    image = torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8)
    with torch.no_grad():
        expected = small.conv(model.preprocess(image[None]))[0]
    torch.testing.assert_close(layer_maps(model, image, "conv"), expected)
    torch.testing.assert_close(layer_maps(model, image, "network.conv"), expected)
    torch.testing.assert_close(layer_maps(model, image / 255, "conv"), expected)


def test_another_module_gets_bytes_as_floats(small: Small) -> None:
    image = torch.randint(0, 256, (3, 6, 6), dtype=torch.uint8)
    torch.testing.assert_close(
        layer_maps(small, image, "conv"), layer_maps(small, image / 255, "conv")
    )


def test_the_model_is_left_as_found(small: Small) -> None:
    small.train()
    small.conv.eval()
    modes = [module.training for module in small.modules()]
    random = torch.get_rng_state()
    maps = layer_maps(small, torch.rand(3, 6, 6, generator=torch.Generator()), "conv")
    assert not maps.requires_grad
    assert [module.training for module in small.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(not module._forward_hooks for module in small.modules())
    assert all(parameter.grad is None for parameter in small.parameters())


def test_the_model_is_left_as_found_after_an_error(small: Small) -> None:
    small.train()
    with pytest.raises(RuntimeError):
        layer_maps(small, torch.rand(3, 9, 9), "conv")  # does not fit its linear layer
    assert small.training
    assert small.noise.training
    assert not small.conv._forward_hooks


def test_half_precision_models_give_float_maps(small: Small) -> None:
    maps = layer_maps(small.to(torch.bfloat16), torch.rand(3, 6, 6), "conv")
    assert maps.dtype == torch.float32


def test_a_layer_under_two_names_is_found_under_both(small: Small) -> None:
    small.add_module("alias", small.conv)
    assert find_layer(small, "conv") is find_layer(small, "alias")


def test_an_unknown_layer_is_answered_with_the_closest(small: Small) -> None:
    model = ImageClassifier(Preprocess(), small)
    with pytest.raises(OptionError, match=r"'covn'; did you mean 'conv'\? Layers: conv, relu"):
        layer_maps(model, torch.rand(3, 6, 6), "covn")
    with pytest.raises(OptionError, match="no layers below it"):
        find_layer(nn.ReLU(), "relu")


def test_of_a_large_model_the_outer_layers_are_listed() -> None:
    model = nn.ModuleDict({"body": nn.Sequential(*(nn.ReLU() for _ in range(60)))})
    with pytest.raises(OptionError, match=r"'x'\. Layers: body; and 60 in them"):
        find_layer(model, "x")


def test_layers_without_maps(small: Small) -> None:
    with pytest.raises(ShapeError, match=r"'head' gives \(1, 2\); needed are maps"):
        layer_maps(small, torch.rand(3, 6, 6), "head")
    with pytest.raises(OptionError, match="took no part"):
        layer_maps(small, torch.rand(3, 6, 6), "unused")


def test_a_layer_that_gives_a_tuple() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ShapeError, match="a tuple"):
        layer_maps(nn.Sequential(Two()), torch.rand(3, 6, 6), "0")


def test_maps_that_are_not_finite(small: Small) -> None:
    nn.init.constant_(small.conv.weight, float("nan"))
    with pytest.raises(RangeError, match="'conv' gives NaN"):
        layer_maps(small, torch.rand(3, 6, 6), "conv")
