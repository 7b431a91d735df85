"""Tests of the built-in shapes: the same for a seed, and neither too easy nor too hard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cifarzoo.data.shapes import _DISTANCES, SHAPE_CLASSES, load_shapes
from cifarzoo.data.tensors import TensorLoader
from cifarzoo.errors import OptionError
from cifarzoo.hardware import seeded


def test_format() -> None:
    data = load_shapes(120, 30)
    assert data.train_images.shape == (120, 3, 32, 32)
    assert data.test_images.shape == (30, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)


def test_ten_classes_in_even_numbers() -> None:
    data = load_shapes(600, 40)
    assert len(SHAPE_CLASSES) == len(set(SHAPE_CLASSES)) == 10
    assert data.train_labels.bincount().tolist() == [60] * 10
    assert data.test_labels.bincount().tolist() == [4] * 10


def test_seed_says_everything() -> None:
    one, again, other = (load_shapes(50, 50, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.train_images, other.train_images)
    assert not torch.equal(one.train_images, one.test_images)


def test_images_are_those_of_every_version() -> None:
    """Ten training images in a row over ten test images, as they were drawn first."""
    with Image.open(Path(__file__).with_name("shapes.png")) as picture:
        kept = np.asarray(picture).astype(np.int64)
    data = load_shapes(10, 10)
    rows = [
        torch.cat(list(images), dim=2).permute(1, 2, 0)
        for images in (data.train_images, data.test_images)
    ]
    found = torch.cat(rows).numpy().astype(np.int64)
    assert found.shape == kept.shape == (64, 320, 3)
    assert np.abs(found - kept).max() <= 1  # another order of additions rounds another way


def test_first_images_do_not_depend_on_how_many() -> None:
    few, many = load_shapes(30, 10), load_shapes(700, 520)
    assert torch.equal(few.train_images, many.train_images[:30])
    assert torch.equal(few.test_labels, many.test_labels[:10])


def test_global_random_state_is_left() -> None:
    state = torch.random.get_rng_state()
    load_shapes(10, 10)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", SHAPE_CLASSES)
def test_every_shape_fits_its_circle_and_fills_some_of_it(name: str) -> None:
    side = torch.linspace(-1.5, 1.5, 301)
    x, y = side[None, :].expand(301, 301), side[:, None].expand(301, 301)
    inside = _DISTANCES[name](x, y) <= 0
    assert torch.hypot(x, y)[inside].max() < 1.25  # radii
    assert 0.2 < inside.double().mean().item() * 9 / torch.pi < 0.8  # share of the unit circle


def test_colours_say_nothing() -> None:
    data = load_shapes(2000, 10)
    means = torch.stack(
        [data.train_images[data.train_labels == c].float().mean(dim=(0, 2, 3)) for c in range(10)]
    )
    assert (means - means.mean(dim=0)).abs().max() < 20  # of 255


@pytest.mark.parametrize(
    ("n_train", "n_test", "seed", "told"),
    [(0, 1, 0, "n_train is 0"), (1, -3, 0, "n_test is -3"), (1, 1, -1, "seed is -1")],
)
def test_bad_numbers_are_refused(n_train: int, n_test: int, seed: int, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        load_shapes(n_train, n_test, seed=seed)


def learn(network: nn.Module, epochs: int, lr: float) -> float:
    """Train on 4,000 shapes and give the share of 1,000 others that is classified well."""
    data = load_shapes(4_000, 1_000)
    train = TensorLoader(data.train_images, data.train_labels, shuffle="every_epoch")
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(epochs):
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images - 0.5), labels)
            torch.autograd.backward(loss)
            optimizer.step()
    return accuracy(network.eval(), data.test_images, data.test_labels)


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        predicted: Tensor = network(images / 255 - 0.5).argmax(dim=1)
    return (predicted == labels).double().mean().item()


def test_a_linear_model_finds_little() -> None:
    with seeded(0):
        assert learn(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), epochs=5, lr=1e-3) < 0.3


@pytest.mark.slow
def test_a_small_network_finds_nearly_everything() -> None:
    def block(channels_in: int, channels: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]

    with seeded(0):
        layers = [*block(3, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(1024, 10)]
        network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        assert learn(network, epochs=8, lr=3e-3) > 0.9
