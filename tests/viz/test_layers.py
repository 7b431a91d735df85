from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.errors import InvalidValueError
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.viz._layers import full_name, last_maps, layer_maps


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
        self.unused = nn.Conv2d(3, 1, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.relu(self.conv(x)))
        return logits


@pytest.fixture
def small() -> Small:
    return Small()


def test_maps_are_the_output_of_the_layer_itself(small: Small) -> None:
    image = torch.rand(3, 6, 6)
    with torch.no_grad():
        expected = small.conv(image[None])[0]
    assert expected.min() < 0  # so that the in-place ReLU after it would change it
    torch.testing.assert_close(layer_maps(small, image, "conv"), expected)
    torch.testing.assert_close(layer_maps(small, image, "relu"), expected.relu())


def test_a_classifier_preprocesses_and_accepts_short_names(small: Small) -> None:
    model = ImageClassifier(Preprocess((0.5,) * 3, (0.25,) * 3, size=6), small)
    image = torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8)
    with torch.no_grad():
        expected = small.conv(model.preprocess(image[None]))[0]
    for name, given in (("conv", image), ("network.conv", image), ("conv", image / 255)):
        torch.testing.assert_close(layer_maps(model, given, name), expected)


@pytest.mark.parametrize("side", [6, 9])
def test_modes_and_hooks_are_restored_even_after_an_error(small: Small, side: int) -> None:
    small.train()
    small.conv.eval()
    modes = [module.training for module in small.modules()]
    with contextlib.suppress(RuntimeError):  # 9×9 pixels do not fit the linear layer
        layer_maps(small, torch.rand(3, side, side), "conv")
    assert [module.training for module in small.modules()] == modes
    assert not any(module._forward_hooks for module in small.modules())


def test_an_unknown_layer_is_rejected_with_a_suggestion(small: Small) -> None:
    with pytest.raises(InvalidValueError, match=r"'covn'; did you mean 'conv'"):
        full_name(ImageClassifier(Preprocess(), small), "covn")
    for name in ("", "xyz"):
        with pytest.raises(InvalidValueError, match="named_modules"):
            full_name(small, name)


def test_layers_without_maps_are_rejected(small: Small) -> None:
    image = torch.rand(3, 6, 6)
    with pytest.raises(InvalidValueError, match=r"\(1, 2\): expected maps"):
        layer_maps(small, image, "head")
    with pytest.raises(InvalidValueError, match="did not run"):
        layer_maps(small, image, "unused")
    with pytest.raises(InvalidValueError, match="a tuple"):
        layer_maps(nn.Sequential(nn.Flatten(), nn.LSTM(108, 6)), image, "1")
    nn.init.constant_(small.conv.weight, float("nan"))
    with pytest.raises(InvalidValueError, match="not finite"):
        layer_maps(small, image, "conv")


def test_the_last_maps_are_larger_than_a_pixel(small: Small) -> None:
    images = torch.rand(1, 3, 6, 6)
    assert last_maps(small, images) == "relu"
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1))
    assert last_maps(pooled, images) == "0"  # not the convolution of a single pixel
    with pytest.raises(InvalidValueError, match="no convolution"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(108, 2)), images)
