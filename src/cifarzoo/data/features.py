"""Loaders of features: what a frozen network makes of a loader's images.

A frozen network gives the same answer for an image in every epoch. So where the images are not
augmented, it runs once, and what trains after it gets its answers from memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from cifarzoo.data.feature_store import FeatureStore, FrozenNetwork, MemoryBudget
from cifarzoo.data.images import labelled_batch
from cifarzoo.data.loaders import (
    Batch,
    BatchLoader,
    HasEpochs,
    Loaders,
    Resumable,
    TensorLoader,
)
from cifarzoo.errors import wrong_kind
from cifarzoo.hardware import keep_freed_memory, move_model, resolve_device, resolve_precision
from cifarzoo.spec import PrecisionName, require, require_number

__all__ = ["FeatureLoader", "TensorFeatureLoader", "feature_loaders"]

MEMORY_LIMIT_BYTES = 4 * 2**30


def feature_loaders(
    frozen: nn.Module,
    loaders: Loaders,
    *,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    progress: bool = True,
) -> Loaders:
    """Turn loaders of images into loaders of features, in the same order, with the same labels.

    The features of a `TensorLoader` without augmentation are computed here and kept, in the type
    that the network gives, on the device that it runs on. What does not fit the limit is computed
    again in every epoch, and so is what any other loader gives: it may be augmented.

    Args:
        frozen: maps images (N,3,H,W) to features (N,...); moved to the device, and put into
            evaluation mode. It must not change as long as the loaders are used. It is given what
            the loaders give, uint8 as float in [0, 1]: a `Preprocess` in it refuses other pixels.
        loaders: of images.
        memory_limit_bytes: of all kept features together; 0 keeps none. Validation images come
            first, then training, then test images.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device is faster in it, else in float32.
        progress: whether to show a progress bar while the kept features are computed.

    Returns:
        Loaders of float32 features (N,...) and labels (N,).

    Raises:
        OptionError: a value is outside what is allowed, or the device is not there.
        RangeError: the network gives NaN or infinity.
        ShapeError: the network does not give one row of features per image. Features that are not
            kept raise all three as they come.
    """
    if not isinstance(loaders, Loaders):
        raise wrong_kind("loaders", loaders, "Loaders(train=..., val=...)")
    if not isinstance(frozen, nn.Module):
        raise wrong_kind("frozen", frozen, "a torch.nn.Module")
    require_number("memory_limit_bytes", memory_limit_bytes, "0 or more")
    limit = 0 <= memory_limit_bytes < math.inf
    require("memory_limit_bytes", memory_limit_bytes, "0 or more", met=limit)
    keep_freed_memory()
    target = resolve_device(device)
    move_model(frozen.eval(), target)
    network = FrozenNetwork(frozen, target, resolve_precision(precision, target))
    budget = MemoryBudget(int(memory_limit_bytes))

    def features_of(loader: BatchLoader) -> BatchLoader:
        if not isinstance(loader, TensorLoader):
            kind = ResumableFeatureLoader if isinstance(loader, Resumable) else FeatureLoader
            return kind(loader, network)
        kept = 0 if loader.augmentation is not None else budget.take(network, loader.images)
        return TensorFeatureLoader(
            loader, FeatureStore(network, loader.images, kept, show=progress)
        )

    # The order in which they draw on the budget: validated most often, tested once.
    val = None if loaders.val is None else features_of(loaders.val)
    train = features_of(loaders.train)
    test = None if loaders.test is None else features_of(loaders.test)
    return Loaders(train, val, test)


class FeatureLoader:
    """Another loader's batches, their images turned into features as they come.

    Args:
        loader: any loader of images.
        network: what makes features of them.
    """

    def __init__(self, loader: BatchLoader, network: FrozenNetwork) -> None:
        self._loader = loader
        self._network = network

    def __len__(self) -> int:
        """Give the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Give features, float32 (batch,...), and labels."""
        return self._features_of(self._loader)

    def set_epoch(self, epoch: int) -> None:
        """Tell the loader, if it wants to know, which epoch comes next."""
        if isinstance(self._loader, HasEpochs):
            self._loader.set_epoch(epoch)

    def _features_of(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for images, labels in map(labelled_batch, batches):
            yield self._network(images).float(), labels


class ResumableFeatureLoader(FeatureLoader):
    """The same of a loader that can start in the middle of an epoch."""

    def __init__(self, loader: BatchLoader, network: FrozenNetwork) -> None:
        super().__init__(loader, network)
        assert isinstance(loader, Resumable)
        self._resumable = loader

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Give the rest of the epoch, from `batch` on; no features are computed before that."""
        return self._features_of(self._resumable.iter_from(batch))


class TensorFeatureLoader:
    """A `TensorLoader`'s batches as features, in memory as far as the store keeps them.

    Args:
        loader: of images; not changed.
        store: the features of the same images.
    """

    def __init__(self, loader: TensorLoader, store: FeatureStore) -> None:
        self._loader = copy.copy(loader)  # its epoch is counted here
        self._store = store

    def __len__(self) -> int:
        """Give the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Give the next epoch's features, float32 (batch,...), and labels."""
        return self.iter_from(0)

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Give the next epoch's batches from `batch` on; skipping costs nothing.

        Raises:
            OptionError: the epoch has fewer batches.
        """
        epoch = self._loader.epoch
        images = self._loader.iter_from(batch)  # also checks, and goes on to the next epoch
        if self._loader.augmentation is not None:
            return ((self._store.network(pixels).float(), labels) for pixels, labels in images)
        return self._batches(epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, from 0, the next `iter()` gives."""
        self._loader.set_epoch(epoch)

    @property
    def fingerprint(self) -> str:
        """That of the loader of images and of the network: they decide on the batches."""
        return f"{self._loader.fingerprint}-{self._store.network.fingerprint}"

    def shard(self, index: int, count: int) -> TensorFeatureLoader:
        """Give one process's share of every batch, as `TensorLoader.shard` does."""
        return TensorFeatureLoader(self._loader.shard(index, count), self._store)

    def in_order(self, *, batch_size: int | None = None) -> TensorFeatureLoader:
        """Give a loader of the features of the same images, in order and not augmented."""
        return TensorFeatureLoader(self._loader.in_order(batch_size=batch_size), self._store)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        for indices in self._loader.indices(epoch, start):
            yield self._store.take(indices), self._loader.labels.index_select(0, indices)
