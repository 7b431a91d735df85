"""Batches from one tensor: nothing is touched image by image."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, TypeAlias, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cifarzoo.data.augment import AugmentParams, apply, draw, generator_for
from cifarzoo.data.cifar10 import CLASSES, load_cifar10
from cifarzoo.data.images import ImageData, check_labelled_images
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes
from cifarzoo.errors import EmptyLoaderError, OptionError, one_of
from cifarzoo.spec import Augmentation

__all__ = [
    "BatchLoader",
    "HasEpochs",
    "Loaders",
    "Resumable",
    "TensorLoader",
    "cifar10_loaders",
    "shapes_loaders",
]

ShuffleName: TypeAlias = Literal["every_epoch", "never"]
LastBatchName: TypeAlias = Literal["keep", "drop"]
Batch: TypeAlias = tuple[Tensor, Tensor]

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


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one data set.

    Attributes:
        train: what is trained on.
        val: what the best state is chosen on; None where nothing needs it.
        test: what is scored once, at the end; None where nothing needs it.
    """

    train: BatchLoader
    val: BatchLoader | None = None
    test: BatchLoader | None = None


class TensorLoader:
    """Batches from images that lie in one tensor, shuffled and augmented batch by batch.

    Order and augmentation depend on the seed and the epoch alone. Each `iter()` gives the next
    epoch; `set_epoch` says which one comes next.

    Args:
        images: uint8 (N,3,H,W); kept channels_last.
        labels: int64 (N,), 0 or more.
        batch_size: images per batch.
        shuffle: a new order in "every_epoch", or "never".
        last_batch: "keep" or "drop" one that is not full.
        augmentation: what happens to the images, anew in every epoch; None leaves them.
        seed: of order and augmentation, 0 or more.
        classes: names of the labels; None where there are none.

    Raises:
        ShapeError: images are not (N,3,H,W), or labels not (N,).
        RangeError: images are not uint8.
        LabelError: labels are not int64, or out of range.
        EmptyLoaderError: there would be no batch.
        OptionError: another value is outside what is allowed.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int = 64,
        shuffle: ShuffleName = "never",
        last_batch: LastBatchName = "keep",
        augmentation: Augmentation | None = None,
        seed: int = 0,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        check_labelled_images(images, labels, classes=classes)
        _check_options(batch_size, shuffle, last_batch, seed)
        _check_fits(augmentation, images)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = labels.to(images.device)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.classes = classes
        self._shuffle: ShuffleName = shuffle
        self._last_batch: LastBatchName = last_batch
        self._next_epoch = 0
        self._fill = images.new_zeros(3)
        if augmentation is not None and augmentation.cutout:
            self._fill = _mean_colour(self.images)
        if not len(self):
            raise EmptyLoaderError(
                f"batch_size is {batch_size} and there are {self.n} images: with "
                "last_batch='drop' no batch is left; make batch_size smaller, or keep the last"
            )

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def epoch(self) -> int:
        """The epoch that the next `iter()` gives, from 0."""
        return self._next_epoch

    def __len__(self) -> int:
        """Give the number of batches in an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (1 if rest and self._last_batch == "keep" else 0)

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of the next epoch.

        Returns:
            An iterator over images, float32 (batch,3,H,W) in [0, 1] and channels_last, and
            labels, int64 (batch,), both on the loader's device.
        """
        return self.iter_from(0)

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Give the next epoch's batches from `batch` on, the same as if it had run whole.

        Args:
            batch: number of batches to skip, 0 to `len(self)`; skipping costs nothing.

        Raises:
            OptionError: the epoch has fewer batches.
        """
        if not 0 <= batch <= len(self):
            raise OptionError(f"batch is {batch}; allowed: 0 to {len(self)}")
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return self._batches(epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next `iter()` gives.

        Args:
            epoch: from 0.

        Raises:
            OptionError: epoch is negative.
        """
        if epoch < 0:
            raise OptionError(f"epoch is {epoch}; allowed: 0 or more")
        self._next_epoch = epoch

    def in_order(self, *, batch_size: int | None = None) -> TensorLoader:
        """Give a loader of the same images, in order and as they are, for scoring them.

        Args:
            batch_size: images per batch; None takes this loader's.
        """
        size = self.batch_size if batch_size is None else batch_size
        return TensorLoader(self.images, self.labels, batch_size=size, classes=self.classes)

    def to(self, device: str | torch.device) -> Self:
        """Give the same loader, at the same epoch, with its images on `device`.

        Raises:
            OptionError: there is no such device.
        """
        moved = copy.copy(self)
        moved.images = _moved(self.images, device)
        moved.labels = _moved(self.labels, device)
        moved._fill = _moved(self._fill, device)
        return moved

    def order(self, epoch: int) -> Tensor:
        """Give the order in which an epoch takes the images, batch after batch.

        Args:
            epoch: from 0.

        Returns:
            Indices, int64 (n,), on the loader's device; where the last batch is dropped, the last
            of them are not used.
        """
        if self._shuffle == "never":
            return torch.arange(self.n, device=self.images.device)
        generator = generator_for("order", seed=self.seed, epoch=epoch)
        return torch.randperm(self.n, generator=generator).to(self.images.device)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order, params = self.order(epoch), self._params(epoch)
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[first : first + self.batch_size], params)

    def _params(self, epoch: int) -> AugmentParams | None:
        if self.augmentation is None:
            return None
        height, width = self.images.shape[2:]
        params = draw(self.augmentation, self.n, size=(height, width), seed=self.seed, epoch=epoch)
        return params.to(self.images.device)

    def _batch(self, indices: Tensor, params: AugmentParams | None) -> Batch:
        # Gathered as (N,H,W,3), where each image is one piece of memory.
        pixels = self.images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)
        if self.augmentation is not None and params is not None:
            pixels = apply(pixels, params.take(indices), self.augmentation, fill=self._fill)
        return pixels.to(torch.float32).div_(255), self.labels.index_select(0, indices)


def _check_options(batch_size: int, shuffle: str, last_batch: str, seed: int) -> None:
    if batch_size < 1:
        raise OptionError(f"batch_size is {batch_size}; allowed: 1 or more")
    if shuffle not in get_args(ShuffleName):
        raise one_of("shuffle", shuffle, get_args(ShuffleName))
    if last_batch not in get_args(LastBatchName):
        raise one_of("last_batch", last_batch, get_args(LastBatchName))
    if seed < 0:
        raise OptionError(f"seed is {seed}; allowed: 0 or more")


def _check_fits(augmentation: Augmentation | None, images: Tensor) -> None:
    side = min(images.shape[2:])
    if augmentation is not None and augmentation.translate >= side:
        raise OptionError(
            f"translate is {augmentation.translate}; allowed for images of shape "
            f"{tuple(images.shape[1:])}: 0 to {side - 1} pixels"
        )


def _mean_colour(images: Tensor) -> Tensor:
    """Average the colour of all images, uint8 (3,); in pieces, for torch widens them to add."""
    pieces = (images[i : i + 1000] for i in range(0, len(images), 1000))
    total = torch.stack([piece.sum(dim=(0, 2, 3)) for piece in pieces]).sum(dim=0)
    return (total / (images.numel() // 3)).round().to(torch.uint8)


def _moved(tensor: Tensor, device: str | torch.device) -> Tensor:
    try:
        return tensor.to(device)
    except (RuntimeError, AssertionError) as error:  # what torch raises for a missing backend
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"device is {str(device)!r}; allowed: 'cpu', or 'cuda', 'cuda:1', 'mps' where there "
            f"is one ({reason})"
        ) from error


def cifar10_loaders(
    batch_size: int = 64,
    *,
    root: str | Path | None = None,
    val_fraction: float = 0.1,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    download: bool = True,
) -> Loaders:
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
        device: where the images are kept.
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


def shapes_loaders(
    batch_size: int = 64,
    *,
    n_train: int = 20_000,
    n_test: int = 4_000,
    val_fraction: float = 0.1,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Loaders:
    """Draw the built-in shapes as three loaders, split as CIFAR-10 is; needs no data.

    Args:
        batch_size: images per training step.
        n_train: number of images to train and validate on.
        n_test: number of test images.
        val_fraction: share of the training images that is held out; 0 gives no validation loader.
        augmentation: what happens to the training images, anew in every epoch.
        seed: of the training images' order and augmentation, 0 or more. The images themselves are
            the same for every seed.
        device: where the images are kept.

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
) -> Loaders:
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

    return Loaders(
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
