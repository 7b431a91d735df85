"""A plain version of the assignment's training loop: the peer of `fit`.

A torchvision DataLoader with two worker processes decodes and normalises image by image, the
network runs in float32 on contiguous tensors, and the loss is read at every step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, Normalize, ToTensor

from cifarzoo import Recipe

Batches: TypeAlias = Iterable[tuple[Tensor, Tensor]]


def loaders(root: Path, batch_size: int, n_train: int, n_val: int) -> tuple[Batches, Batches]:
    """Return the training and the validation loader, each with two persistent workers."""
    transform = Compose([ToTensor(), Normalize((0.5,) * 3, (0.25,) * 3)])
    data: Dataset[tuple[Tensor, Tensor]] = CIFAR10(str(root), train=True, transform=transform)

    def loader(first: int, count: int, *, shuffle: bool) -> Batches:
        return DataLoader(
            Subset(data, range(first, first + count)),
            batch_size=batch_size,
            shuffle=shuffle,
            num_workers=2,
            drop_last=shuffle,
            persistent_workers=True,
        )

    return loader(0, n_train, shuffle=True), loader(45_000, n_val, shuffle=False)


def batches_in_memory(
    root: Path, batch_size: int, n_train: int, n_val: int
) -> tuple[Batches, Batches]:
    """Return the same batches, cut from normalised float32 tensors in memory."""
    data = CIFAR10(str(root), train=True)
    images = (torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous() / 255 - 0.5) / 0.25
    labels = torch.tensor(data.targets)
    order = torch.randperm(n_train)
    train = [(images[i], labels[i]) for i in torch.split(order, batch_size)]
    chosen = torch.arange(45_000, 45_000 + n_val)
    return train, [(images[i], labels[i]) for i in torch.split(chosen, batch_size)]


def make_optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that the report used for this network."""
    optimizer = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.Adam
    return optimizer(network.parameters(), lr=recipe.lr)


def train_for(
    network: nn.Module, optimizer: torch.optim.Optimizer, train: Batches, val: Batches
) -> float:
    """Train one epoch and validate once; return the seconds, excluding worker start-up."""
    for batch in (next(iter(val)), *islice(train, 2)):  # starts the workers
        assert len(batch) == 2
    batches: Iterator[tuple[Tensor, Tensor]] = iter(train)
    first = next(batches)
    losses = []
    began = time.perf_counter()
    for images, labels in chain([first], batches):
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    _validate(network, val)
    return time.perf_counter() - began


def _validate(network: nn.Module, val: Batches) -> tuple[float, float]:
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
