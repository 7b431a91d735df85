"""Loaders of features, the outputs of a frozen network for a loader's images.

Without augmentation, a frozen network returns the same features in every epoch, so they are
computed once and kept in memory.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.data.augment import Params
from cifarzoo.data.loader import (
    Batch,
    BatchLoader,
    Loaders,
    TensorLoader,
    gather,
    labelled_batch,
)
from cifarzoo.device import (
    autocast,
    keep_freed_memory,
    move_model,
    resolve_device,
    resolve_precision,
    seconds_between_updates,
)
from cifarzoo.recipe import PrecisionName

__all__ = ["feature_loaders"]

MEMORY_LIMIT_BYTES = 4 * 2**30
CPU_BATCH, GPU_BATCH = 32, 250  # images per forward pass; more are slower on a CPU


def feature_loaders(
    frozen: nn.Module,
    loaders: Loaders,
    *,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    progress: bool = True,
) -> Loaders:
    """Turn loaders of images into loaders of features with the same order and labels.

    The features of a `TensorLoader` without augmentation are computed here and kept on the device,
    in the dtype of the network's output, if all features kept in this way fit into 4 GiB;
    validation images come first, then training images. Other features are computed per batch.

    Args:
        frozen: maps images (N,3,H,W) in [0, 1] to features (N,...); moved to the device and set to
            evaluation mode. It must not change while the loaders are in use.
        loaders: loaders of images.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device is faster in it.
        progress: whether to show a progress bar.

    Returns:
        Loaders of float32 features (N,...) and labels (N,).
    """
    keep_freed_memory()
    target = resolve_device(device)
    move_model(frozen.eval(), target)
    batch_size = CPU_BATCH if target.type == "cpu" else GPU_BATCH
    network = _FrozenNetwork(frozen, target, resolve_precision(precision, target), batch_size)
    free_bytes = MEMORY_LIMIT_BYTES

    def features_of(loader: BatchLoader) -> BatchLoader:
        nonlocal free_bytes
        if not isinstance(loader, TensorLoader):
            return _FeaturesPerBatch(loader, network)
        moved, kept = loader.to(target), None
        example = network(moved.images[:1])
        size_bytes = loader.n * example.numel() * example.element_size()
        is_fixed = loader.augmentation is None and loader.transform is None
        if is_fixed and size_bytes <= free_bytes:
            free_bytes -= size_bytes
            kept = _compute(network, moved.images, example, progress=progress)
        return _FeatureLoader(moved, network, kept)

    val = loaders.val and features_of(loaders.val)
    train = features_of(loaders.train)
    return Loaders(train, val, loaders.test and features_of(loaders.test))


@dataclass(frozen=True)  # without slots, which cached_property does not support
class _FrozenNetwork:
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    batch_size: int

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the network's state and precision, which determine the features."""
        found = hashlib.sha256(str(self.dtype).encode())
        for name, value in self.module.state_dict().items():
            found.update(repr((name, value.dtype, tuple(value.shape))).encode())
            found.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:16]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images, computed in small batches."""
        images = images.to(self.device)
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        # Not inference_mode: training on the features needs them in its backward pass.
        with torch.no_grad(), autocast(self.device, self.dtype, self.module):
            return torch.cat([self.module(part) for part in torch.split(images, self.batch_size)])


def _compute(network: _FrozenNetwork, images: Tensor, row: Tensor, *, progress: bool) -> Tensor:
    """Return the features of all images, in batches that no epoch's order affects."""
    from tqdm.auto import tqdm

    layout = torch.channels_last if row.ndim == 4 else torch.contiguous_format
    kept = torch.empty_like(row.expand(len(images), *row.shape[1:]), memory_format=layout)
    parts = torch.split(images, network.batch_size)
    shown = tqdm(
        parts,
        desc="frozen layers",
        unit="batch",
        leave=False,
        disable=not progress,
        mininterval=seconds_between_updates(),
    )
    for part, rows in zip(shown, torch.split(kept, network.batch_size), strict=True):
        rows.copy_(network(part))
    return kept


class _FeatureLoader(TensorLoader):
    """A `TensorLoader` of features, which are kept or computed from the images."""

    def __init__(self, loader: TensorLoader, network: _FrozenNetwork, kept: Tensor | None) -> None:
        vars(self).update(vars(loader))
        self._network = network
        self._kept = kept

    @property
    @override
    def fingerprint(self) -> str:
        return f"{super().fingerprint}-{self._network.fingerprint}"

    @override
    def _batch(self, indices: Tensor, params: Params, *, epoch: int, number: int) -> Tensor:
        if self._kept is None:
            images = super()._batch(indices, params, epoch=epoch, number=number)
            return self._network(images).float()
        return gather(self._kept, indices).float()


class _FeaturesPerBatch:
    """The batches of any loader, with features in place of images."""

    def __init__(self, loader: BatchLoader, network: _FrozenNetwork) -> None:
        self.loader = loader
        self._network = network

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in map(labelled_batch, self.loader):
            yield self._network(images).float(), labels
