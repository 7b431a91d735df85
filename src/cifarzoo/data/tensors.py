"""A loader that gathers whole batches from one tensor; nothing is touched image by image."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator
from typing import Literal, Self, TypeAlias, get_args

import torch
from torch import Tensor

from cifarzoo.data.augment import AugmentParams, apply, draw, generator_for
from cifarzoo.data.images import check_labelled_images
from cifarzoo.errors import EmptyLoaderError, OptionError, one_of, wrong_kind
from cifarzoo.hardware import resolve_device
from cifarzoo.spec import Augmentation, require_whole

__all__ = ["Batch", "TensorLoader"]

Batch: TypeAlias = tuple[Tensor, Tensor]
ShuffleName: TypeAlias = Literal["every_epoch", "never"]
LastBatchName: TypeAlias = Literal["keep", "drop"]

FINGERPRINT_IMAGES = 256


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
        self._shard = (0, 1)
        self._fill = images.new_zeros(3)
        if augmentation is not None and augmentation.cutout:
            self._fill = _mean_colour(self.images)
        self._require_batches()

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
        index, count = self._shard
        return full + (
            1 if rest and self._last_batch == "keep" and _part(rest, index, count) else 0
        )

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
        require_whole("batch", batch, 0, len(self), f"0 to {len(self)}")
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return self._batches(epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next `iter()` gives.

        Args:
            epoch: from 0.

        Raises:
            OptionError: epoch is negative.
        """
        require_whole("epoch", epoch, 0, math.inf, "0 or more")
        self._next_epoch = epoch

    @property
    def fingerprint(self) -> str:
        """Hash over images, labels, order and augmentation, which decide on the batches.

        Of the images some hundred are looked at, evenly spaced, which takes no time.
        """
        settings = (
            self.n,
            self.batch_size,
            self.seed,
            self.augmentation,
            self._shuffle,
            self._last_batch,
            self._shard,
        )
        some = self.images[:: max(1, self.n // FINGERPRINT_IMAGES)].contiguous()
        found = hashlib.sha256(repr(settings).encode())
        for tensor in (self.labels, some):
            found.update(tensor.cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def in_order(self, *, batch_size: int | None = None) -> TensorLoader:
        """Give a loader of the same images, in order and as they are, for scoring them.

        Args:
            batch_size: images per batch; None takes this loader's.
        """
        size = self.batch_size if batch_size is None else batch_size
        return TensorLoader(self.images, self.labels, batch_size=size, classes=self.classes)

    def first(self, n: int) -> Self:
        """Give the same loader of its first images alone, at the same epoch.

        Args:
            n: number of images, 1 or more; more than there are gives them all.

        Raises:
            OptionError: n is under 1.
            EmptyLoaderError: there would be no batch.
        """
        require_whole("n", n, 1, math.inf, "1 image or more")
        cut = copy.copy(self)
        cut.images, cut.labels = self.images[:n], self.labels[:n]
        cut._require_batches()
        return cut

    def shard(self, index: int, count: int) -> Self:
        """Give one process's share of every batch, at the same epoch.

        All processes together see the batches that one alone would see: each image once an epoch,
        none twice, none to fill up, augmented in the same way. The batch size stays that of all
        together; where it does not divide, the first shares are larger by one image. A last batch
        of fewer images than processes leaves some of them with one batch less.

        Args:
            index: of the process, 0 to count - 1.
            count: number of processes, 1 to the batch size.

        Raises:
            OptionError: a number is outside what is allowed, or this is a share already.
            EmptyLoaderError: there would be no batch.
        """
        most = self.batch_size
        require_whole("count", count, 1, most, f"1 to the batch size, {most}")
        require_whole("index", index, 0, count - 1, f"0 to {count - 1}")
        if self._shard != (0, 1):
            raise OptionError(f"this is share {self._shard[0]} of {self._shard[1]}; cut the whole")
        share = copy.copy(self)
        share._shard = (index, count)
        share._require_batches()
        return share

    def to(self, device: str | torch.device) -> Self:
        """Give the same loader, at the same epoch, with its images on `device`.

        Args:
            device: "auto" (CUDA, else MPS, else the CPU), or what `torch.device` takes.

        Raises:
            OptionError: there is no such device.
        """
        place = resolve_device(device)
        moved = copy.copy(self)
        moved.images, moved.labels = self.images.to(place), self.labels.to(place)
        moved._fill = self._fill.to(place)
        return moved

    def order(self, epoch: int) -> Tensor:
        """Give the order in which an epoch takes the images, batch after batch.

        Args:
            epoch: from 0.

        Returns:
            Indices, int64 (n,), on the loader's device; where the last batch is dropped, the last
            of them are not used.

        Raises:
            OptionError: epoch is negative.
        """
        require_whole("epoch", epoch, 0, math.inf, "0 or more")
        if self._shuffle == "never":
            return torch.arange(self.n, device=self.images.device)
        generator = generator_for("order", seed=self.seed, epoch=epoch)
        return torch.randperm(self.n, generator=generator).to(self.images.device)

    def _require_batches(self) -> None:
        index, count = self._shard
        if not len(self) and self._last_batch == "keep":
            raise EmptyLoaderError(
                f"share {index} of {count} holds none of the {self.n} images; allowed: as many "
                "shares as there are images"
            )
        if not len(self):
            raise EmptyLoaderError(
                f"batch_size is {self.batch_size} and there are {self.n} images: with "
                "last_batch='drop' no batch is left; make batch_size smaller, or keep the last"
            )

    def indices(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Give the images of an epoch's batches, or of this share of them.

        Args:
            epoch: from 0.
            start: the batch to begin with, from 0.

        Returns:
            An iterator over indices, int64 (batch,), on the loader's device.
        """
        order, (index, count) = self.order(epoch), self._shard
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            batch = order[first : first + self.batch_size]
            begin = sum(_part(len(batch), before, count) for before in range(index))
            yield batch[begin : begin + _part(len(batch), index, count)]

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        params = self._params(epoch)
        for indices in self.indices(epoch, start):
            yield self._batch(indices, params)

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


def _part(total: int, index: int, count: int) -> int:
    """Give the size of one of `count` shares of so many images; the first ones are larger."""
    return (total + count - 1 - index) // count


def _check_options(batch_size: int, shuffle: str, last_batch: str, seed: int) -> None:
    require_whole("batch_size", batch_size, 1, math.inf, "1 or more")
    require_whole("seed", seed, 0, 2**63 - 1, "0 to 2**63 - 1")
    if shuffle not in get_args(ShuffleName):
        raise one_of("shuffle", shuffle, get_args(ShuffleName))
    if last_batch not in get_args(LastBatchName):
        raise one_of("last_batch", last_batch, get_args(LastBatchName))


def _check_fits(augmentation: Augmentation | None, images: Tensor) -> None:
    if not isinstance(augmentation, Augmentation | None):
        raise wrong_kind("augmentation", augmentation, "Augmentation(...), or None")
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
