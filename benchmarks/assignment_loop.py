"""The assignment's own way to train, written plainly: the peer that `fit` is measured against.

A torchvision DataLoader with two worker processes decodes and normalises image by image, the
network runs in float32 on contiguous tensors, and the loss is read at every step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, ToTensor

from cifarzoo import Recipe

__all__ = ["loaders", "optimizer_of", "train_for"]


def loaders(
    root: Path, batch_size: int, n_train: int, n_val: int
) -> tuple[DataLoader[tuple[Tensor, Tensor]], DataLoader[tuple[Tensor, Tensor]]]:
    """Build the training and validation loaders, each with two workers that stay alive."""
    transform = Compose([ToTensor(), Normalize((0.5,) * 3, (0.25,) * 3)])
    data: Dataset[tuple[Tensor, Tensor]] = CIFAR10(str(root), train=True, transform=transform)

    def loader(first: int, count: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(
            Subset(data, range(first, first + count)),
            batch_size=batch_size,
            shuffle=shuffle,
            num_workers=2,
            drop_last=shuffle,
            persistent_workers=True,
        )

    return loader(0, n_train, shuffle=True), loader(45_000, n_val, shuffle=False)


def optimizer_of(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer that the report used for this network."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=recipe.lr)
    return torch.optim.Adam(network.parameters(), lr=recipe.lr)


def train_for(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: DataLoader[tuple[Tensor, Tensor]],
    val: DataLoader[tuple[Tensor, Tensor]],
) -> float:
    """Train one pass and validate once; give seconds per pass, the loaders' start not counted."""
    cross_entropy = nn.CrossEntropyLoss()
    for batch in (next(iter(val)), *islice(train, 2)):  # starts the workers
        assert len(batch) == 2
    batches: Iterator[tuple[Tensor, Tensor]] = iter(train)
    first = next(batches)
    began = time.perf_counter()
    losses = []
    for images, labels in (first, *batches):
        loss = cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    _validate(network, val)
    return time.perf_counter() - began


def _validate(network: nn.Module, val: DataLoader[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    network.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in val:
            logits = network(images)
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(dim=1) == labels).sum().item())
            count += len(labels)
    network.train()
    return loss / count, correct / count
