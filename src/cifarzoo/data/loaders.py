"""Loaders of the data sets, and what a loader is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cifarzoo.data.cifar10 import CLASSES, load_cifar10
from cifarzoo.data.images import ImageData
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes
from cifarzoo.data.tensors import Batch, TensorLoader
from cifarzoo.errors import OptionError, wrong_kind
from cifarzoo.spec import Augmentation

__all__ = [
    "Batch",
    "BatchLoader",
    "Fingerprinted",
    "HasEpochs",
    "Loaders",
    "Resumable",
    "TensorLoader",
    "TensorLoaders",
    "cifar10_loaders",
    "first_images",
    "shapes_loaders",
]

SCORING_BATCH_SIZE = 250  # larger ones are no faster on a CPU, and need more memory


class BatchLoader(Protocol):
    """What training and evaluation take: batches of images and labels; a DataLoader fits.

    Images are uint8 (N,3,H,W) or float (N,3,H,W) in [0, 1]; labels are int64 (N,).
    """

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of one epoch."""
        ...

    def __len__(self) -> int:
        """Give the number of batches."""
        ...


@runtime_checkable
class HasEpochs(Protocol):
    """A loader whose batches depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next `iter()` gives."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A loader that can start in the middle of an epoch without being read up to there."""

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Give the rest of the epoch, from `batch` on."""
        ...


@runtime_checkable
class Fingerprinted(Protocol):
    """A loader that can tell whether another one gives the same batches."""

    @property
    def fingerprint(self) -> str:
        """Equal for loaders that give the same batches."""
        ...


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one data set.

    Attributes:
        train: what is trained on.
        val: what the best state is chosen on; None where nothing needs it.
        test: what is scored once, at the end; None where nothing needs it.

    Raises:
        OptionError: one of them is no loader.
    """

    train: BatchLoader
    val: BatchLoader | None = None
    test: BatchLoader | None = None

    def __post_init__(self) -> None:
        given = {"train": self.train, "val": self.val, "test": self.test}
        for name, loader in given.items():
            if (loader is not None or name == "train") and not _is_loader(loader):
                raise wrong_kind(
                    name,
                    loader,
                    "a loader of (images, labels) that has a length: TensorLoader(images, labels), "
                    "a torch DataLoader, a list of batches",
                )


@dataclass(frozen=True, slots=True)
class TensorLoaders(Loaders):
    """The loaders of one data set whose images are all in memory.

    Attributes:
        train: shuffled and augmented anew in every epoch.
        val: in order; None where nothing was held out.
        test: in order.

    Raises:
        OptionError: one of them is of another kind; `Loaders` takes any.
    """

    train: TensorLoader
    val: TensorLoader | None
    test: TensorLoader

    def __post_init__(self) -> None:
        given: dict[str, object] = {"train": self.train, "val": self.val, "test": self.test}
        for name, loader in given.items():
            if not isinstance(loader, TensorLoader) and (name != "val" or loader is not None):
                raise wrong_kind(name, loader, "a TensorLoader(images, labels); Loaders takes any")


def _is_loader(value: object) -> bool:
    """Tell whether it has batches and a length, and is not images and labels themselves."""
    tensors = isinstance(value, Tensor) or (
        isinstance(value, tuple | list) and any(isinstance(each, Tensor) for each in value)
    )
    return hasattr(value, "__iter__") and hasattr(value, "__len__") and not tensors


def cifar10_loaders(
    batch_size: int = 64,
    *,
    root: str | Path | None = None,
    val_fraction: float = 0.1,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    download: bool = True,
) -> TensorLoaders:
    """Load CIFAR-10 as three loaders.

    The training loader shuffles every epoch and drops a last batch that is not full; the others
    keep every image, in order, in batches of 250. The split is the report's: of the training
    images, permuted by numpy's RandomState(0), the first `val_fraction` validate, and the rest
    trains, whatever the seed.

    Args:
        batch_size: images per training step.
        root: where the data is; None looks in `CIFARZOO_DATA`, else in the user's cache folder.
        val_fraction: share of the training images that is held out; 0 gives no validation loader.
        augmentation: what happens to the training images, anew in every epoch.
        seed: of the training images' order and augmentation, 0 or more.
        device: where the images are kept; "auto" takes a GPU if there is one.
        download: fetch the data where it is not found.

    Returns:
        Loaders of float32 images (N,3,32,32) in [0, 1] and labels (N,).

    Raises:
        DataNotFoundError: the data is not there, and download is off.
        DataCorruptError: a file is not the published one.
        DownloadError: no host gave the data.
        OptionError: a value is outside what is allowed.
    """
    return _loaders(
        load_cifar10(root, download=download),
        CLASSES,
        batch_size=batch_size,
        val_fraction=val_fraction,
        augmentation=augmentation,
        seed=seed,
        device=device,
    )


def first_images(loader: BatchLoader, n: int) -> BatchLoader:
    """Give a loader of the first images alone; one of another kind than ours as it is."""
    return loader.first(n) if isinstance(loader, TensorLoader) else loader


def shapes_loaders(
    batch_size: int = 64,
    *,
    n_train: int = 20_000,
    n_test: int = 4_000,
    val_fraction: float = 0.1,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> TensorLoaders:
    """Draw the built-in shapes as three loaders, split as CIFAR-10 is; needs no data.

    Args:
        batch_size: images per training step.
        n_train: number of images to train and validate on.
        n_test: number of test images.
        val_fraction: share of the training images that is held out; 0 gives no validation loader.
        augmentation: what happens to the training images, anew in every epoch.
        seed: of the training images' order and augmentation, 0 or more. The images themselves are
            the same for every seed.
        device: where the images are kept; "auto" takes a GPU if there is one.

    Returns:
        Loaders of float32 images (N,3,32,32) in [0, 1] and labels (N,).

    Raises:
        OptionError: a value is outside what is allowed.
    """
    return _loaders(
        load_shapes(n_train, n_test),
        SHAPE_CLASSES,
        batch_size=batch_size,
        val_fraction=val_fraction,
        augmentation=augmentation,
        seed=seed,
        device=device,
    )


def _loaders(
    data: ImageData,
    classes: tuple[str, ...],
    *,
    batch_size: int,
    val_fraction: float,
    augmentation: Augmentation | None,
    seed: int,
    device: str | torch.device,
) -> TensorLoaders:
    train, val = _split(len(data.train_images), val_fraction)
    training = TensorLoader(
        *_chosen(data, train),
        batch_size=batch_size,
        shuffle="every_epoch",
        last_batch="drop",
        augmentation=augmentation,
        seed=seed,
        classes=classes,
    ).to(device)

    def scoring(images: Tensor, labels: Tensor) -> TensorLoader:
        loader = TensorLoader(images, labels, batch_size=SCORING_BATCH_SIZE, classes=classes)
        return loader.to(device)

    return TensorLoaders(
        training,
        scoring(*_chosen(data, val)) if len(val) else None,
        scoring(data.test_images, data.test_labels),
    )


def _chosen(data: ImageData, indices: Tensor) -> Batch:
    # Gathered as (N,H,W,3), where each image is one piece of memory.
    pixels = data.train_images.permute(0, 2, 3, 1).index_select(0, indices)
    return pixels.permute(0, 3, 1, 2), data.train_labels.index_select(0, indices)


def _split(n: int, val_fraction: float) -> tuple[Tensor, Tensor]:
    """Give the indices to train and to validate on, int64; the same for every seed."""
    if not 0 <= val_fraction < 1:
        raise OptionError(f"val_fraction is {val_fraction}; allowed: 0 up to, but not, 1")
    order = np.random.RandomState(0).permutation(n)  # the course's: np.random.choice, seed 0
    cut = round(val_fraction * n)
    return torch.from_numpy(np.sort(order[cut:])), torch.from_numpy(np.sort(order[:cut]))
