"""Tests of the built-in shapes: reproducible, and neither too easy nor too hard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cifarzoo.data.loader import TensorLoader
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes
from cifarzoo.errors import InvalidValueError


def test_the_ten_classes_have_the_same_number_of_images() -> None:
    data = load_shapes(600, 40)
    assert data.train_images.shape == (600, 3, 32, 32)
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)
    assert data.train_labels.bincount().tolist() == [60] * 10
    assert data.test_labels.bincount().tolist() == [4] * 10
    assert len(set(SHAPE_CLASSES)) == 10


def test_the_seed_alone_determines_the_images() -> None:
    state = torch.random.get_rng_state()
    one, again, other = (load_shapes(50, 50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.train_images, other.train_images)
    assert not torch.equal(one.train_images, one.test_images)
    many = load_shapes(700, 520, seed=3)
    assert torch.equal(one.train_images, many.train_images[:50])
    assert torch.equal(one.test_labels, many.test_labels[:50])


def test_images_are_the_same_in_every_version() -> None:
    """Compare with ten training and ten test images, drawn by the first version."""
    with Image.open(Path(__file__).with_name("shapes.png")) as picture:
        kept = np.asarray(picture).astype(np.int64)
    data = load_shapes(10, 10)
    rows = [torch.cat(list(images), dim=2) for images in (data.train_images, data.test_images)]
    found = torch.cat(rows, dim=1).permute(1, 2, 0).numpy().astype(np.int64)
    assert found.shape == kept.shape == (64, 320, 3)
    assert np.abs(found - kept).max() <= 1  # rounding depends on the order of additions


@pytest.mark.parametrize(("n_train", "n_test", "seed"), [(0, 1, 0), (1, -3, 0), (1, 1, -1)])
def test_numbers_out_of_range_are_rejected(n_train: int, n_test: int, seed: int) -> None:
    with pytest.raises(InvalidValueError):
        load_shapes(n_train, n_test, seed=seed)


def learn(network: nn.Module, epochs: int, lr: float) -> float:
    """Train on 4,000 shapes and return the accuracy on 1,000 others."""
    data = load_shapes(4_000, 1_000)
    train = TensorLoader(data.train_images, data.train_labels, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(epochs):
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images - 0.5), labels)
            torch.autograd.backward(loss)
            optimizer.step()
    with torch.no_grad():
        predicted: Tensor = network.eval()(data.test_images / 255 - 0.5).argmax(dim=1)
    return (predicted == data.test_labels).double().mean().item()


def test_a_linear_model_learns_little() -> None:
    assert learn(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), epochs=5, lr=1e-3) < 0.3


@pytest.mark.slow
def test_a_small_network_learns_nearly_everything() -> None:
    layers: list[nn.Module] = []
    for channels_in, channels in ((3, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))
    assert learn(network.to(memory_format=torch.channels_last), epochs=8, lr=3e-3) > 0.9
