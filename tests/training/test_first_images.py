from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo import (
    CifarZooError,
    EmptyLoaderError,
    ImageClassifier,
    Loaders,
    OptionError,
    Preprocess,
    Recipe,
    fit,
)
from cifarzoo.training import first_images
from cifarzoo.training.first_images import show_images

HALF = Preprocess((0.5,) * 3, (0.25,) * 3)


class Asking(nn.Module):
    """A network whose first layer is the mean of the pixels that it was shown."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))
        self.head = nn.Linear(3, 10)
        self.calls: list[int] = []

    @property
    def needs_images(self) -> bool:
        return not self.calls

    def initialize_from(self, pixels: Tensor) -> None:
        self.calls.append(len(pixels))
        self.seen = pixels.mean((0, 2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(pixels.mean((2, 3)) - self.seen)
        return logits


def test_network_is_shown_preprocessed_images_before_the_first_step(loaders: Loaders) -> None:
    network = Asking()
    model = ImageClassifier(HALF, network)
    assert model.needs_images
    fit(model, loaders, Recipe(epochs=1), device="cpu", progress=False)
    assert network.calls == [48]
    shown = torch.cat([images for images, _ in loaders.train])
    torch.testing.assert_close(network.seen, HALF(shown).mean((0, 2, 3)))
    fit(model, loaders, Recipe(epochs=1), device="cpu", progress=False)
    assert network.calls == [48], "a model that was shown images is not shown others"


def test_no_more_images_are_read_than_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(40, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.zeros(40, dtype=torch.int64)), batch_size=8)
    network = Asking()
    monkeypatch.setattr(first_images, "FIRST_IMAGES", 20)
    show_images(ImageClassifier(HALF, network), loader, torch.device("cpu"))
    assert network.calls == [24]


def test_other_models_are_shown_nothing(make_model: Callable[..., ImageClassifier]) -> None:
    model = make_model()
    assert not model.needs_images
    show_images(model, _Unreadable(), torch.device("cpu"))
    show_images(nn.Linear(1, 1), _Unreadable(), torch.device("cpu"))


class _Unreadable:
    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("nobody asked for images")


def test_images_are_those_of_the_first_epoch_whatever_was_read_before(
    make_loaders: Callable[..., Loaders], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_images, "FIRST_IMAGES", 8)
    fresh, used = make_loaders(), make_loaders()
    list(used.train)
    seen = []
    for loaders in (fresh, used):
        network = Asking()
        show_images(ImageClassifier(HALF, network), loaders.train, torch.device("cpu"))
        seen.append(network.seen)
    assert torch.equal(*seen)


def test_layers_are_computed_in_evaluation_mode_without_gradients(loaders: Loaders) -> None:
    class Careless(Asking):
        def initialize_from(self, pixels: Tensor) -> None:
            assert not self.training
            self.calls.append(len(pixels))
            self.seen = (pixels * self.head.weight.mean()).mean((0, 2, 3))

    network = Careless()
    show_images(ImageClassifier(HALF, network).train(), loaders.train, torch.device("cpu"))
    assert not network.seen.requires_grad
    assert network.training


def test_network_that_nobody_would_show_images_is_refused(loaders: Loaders) -> None:
    model = ImageClassifier(HALF, nn.Sequential(Asking()))
    with pytest.raises(OptionError, match=r"network\.0 \(Asking\) is still to be computed"):
        fit(model, loaders, Recipe(epochs=1), device="cpu", progress=False)


def test_seconds_count_the_first_layer(loaders: Loaders) -> None:
    class Slow(Asking):
        def initialize_from(self, pixels: Tensor) -> None:
            time.sleep(0.3)
            super().initialize_from(pixels)

    model = ImageClassifier(HALF, Slow())
    history = fit(model, loaders, Recipe(epochs=1), device="cpu", progress=False)
    assert history.seconds > 0.3


@pytest.mark.parametrize(
    ("batches", "error", "told"),
    [
        ([(torch.rand(4, 3, 8, 8), torch.zeros(4).long(), 0)], OptionError, "a tuple of 3"),
        ([{"images": torch.rand(4, 3, 8, 8)}], OptionError, "a dict"),
        ([(torch.rand(0, 3, 8, 8), torch.zeros(0).long())], EmptyLoaderError, "holds no image"),
    ],
    ids=["three", "dict", "empty"],
)
def test_batches_that_are_none_are_told_as_ever(
    batches: Any,  # noqa: ANN401
    error: type[CifarZooError],
    told: str,
) -> None:
    model = ImageClassifier(HALF, Asking())
    with pytest.raises(error, match=told):
        fit(model, Loaders(batches), Recipe(epochs=1), device="cpu", progress=False)
