"""Loaders of images and labels: protocols, `TensorLoader`, and the data sets."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import torch
from pydantic import InstanceOf, StrictBool
from torch import Tensor
from typing_extensions import override

from cifarzoo.data.augment import (
    Params,
    Transform,
    apply,
    draw,
    generator_for,
    transform_images,
)
from cifarzoo.data.cifar import (
    CIFAR100_CLASSES,
    CIFAR100_SUPERCLASSES,
    CLASSES,
    ImageData,
    load_cifar10,
    load_cifar100,
)
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes
from cifarzoo.device import resolve_device
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.recipe import Augmentation, Recipe
from cifarzoo.validation import (
    Fraction,
    NonNegativeInt,
    PositiveInt,
    Seed,
    stable_repr,
    validate,
)

__all__ = [
    "Batch",
    "BatchLoader",
    "Fingerprinted",
    "HasEpochs",
    "Loaders",
    "Resumable",
    "Shardable",
    "TensorLoader",
    "TensorLoaders",
    "cifar10_loaders",
    "cifar100_loaders",
    "is_dense",
    "labelled_batch",
    "shapes_loaders",
    "start_epoch",
    "to_device",
]

Batch: TypeAlias = tuple[Tensor, Tensor]

SCORING_BATCH_SIZE = 250  # larger batches are no faster on a CPU, and need more memory
FINGERPRINT_IMAGES = 256


class BatchLoader(Protocol):
    """An iterable of batches (images, labels) with a length, such as a DataLoader.

    Images are uint8 (N,3,H,W) or float (N,3,H,W) in [0, 1]; labels are int64 (N,).
    """

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


@runtime_checkable
class HasEpochs(Protocol):
    """A loader whose batches depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next `iter()`."""


@runtime_checkable
class Resumable(Protocol):
    """A loader that can start in the middle of an epoch."""

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Return the batches of the next epoch without the first `batch` ones."""


@runtime_checkable
class Fingerprinted(Protocol):
    """A loader with a hash of everything that determines its batches."""

    @property
    def fingerprint(self) -> str:
        """The hash."""


@runtime_checkable
class Shardable(Protocol):
    """A loader whose batches can be divided among processes."""

    def shard(self, index: int, count: int) -> BatchLoader:
        """Return the loader of process `index` of `count`."""


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one data set.

    Attributes:
        train: loader of the training images.
        val: loader of the validation images, which choose the best weights; may be None.
        test: loader of the test images, which are scored once, at the end; may be None.
    """

    train: BatchLoader
    val: BatchLoader | None = None
    test: BatchLoader | None = None

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            loader = getattr(self, name)
            is_batch = isinstance(loader, tuple | list) and any(map(torch.is_tensor, loader))
            has_length = hasattr(loader, "__iter__") and hasattr(loader, "__len__")
            is_loader = has_length and not is_batch and not isinstance(loader, Tensor)
            if not is_loader and (loader is not None or name == "train"):
                raise InvalidTypeError(
                    f"{name} is a {type(loader).__name__}: expected batches (images, labels) with "
                    "a length, such as TensorLoader(images, labels) or a torch DataLoader"
                )
            if loader is not None:
                _require_length(name, loader)


def _require_length(name: str, loader: Any) -> None:  # noqa: ANN401 - any iterable
    try:
        len(loader)
    except TypeError as error:  # a DataLoader over an IterableDataset
        raise InvalidTypeError(
            f"{name} has no length ({error}): expected a known number of batches; add __len__ to "
            "the data set"
        ) from error


class TensorLoader:
    """Loader of images in one tensor, augmented a whole batch at a time.

    Order and augmentation depend on the seed and the epoch alone. Each `iter()` returns the batches
    of epoch number `epoch`, an attribute that starts at 0, and increments it.

    Args:
        images: uint8 (N,3,H,W); kept in channels_last order.
        labels: int64 (N,), 0 or more.
        batch_size: images per batch.
        shuffle: whether to shuffle the images in each epoch.
        drop_last: whether to drop the last batch if it is smaller than the others.
        augmentation: drawn for each image in each epoch; None for none.
        transform: your own augmentation, applied last: maps a uint8 batch (N,3,H,W) to uint8 or
            float in [0, 1], (N,3,H',W'). torchvision's transforms draw once per call, so they are
            called on one image (3,H,W) after another. Random numbers from the global generators
            of Python, NumPy and torch depend on seed, epoch, batch and shard alone.
        seed: seed of the order and the augmentation, 0 or more; `fit` uses its own instead.
        classes: names of the classes, if known.

    Raises:
        InvalidTypeError: an argument has the wrong type.
        InvalidValueError: a value, shape or dtype is not accepted, or there would be no batch.

    Example:
        >>> images = torch.randint(256, (100, 3, 32, 32), dtype=torch.uint8)
        >>> loader = TensorLoader(images, torch.arange(100) % 10, batch_size=50, shuffle=True)
        >>> for batch, labels in loader:
        ...     print(batch.shape, batch.dtype, labels.shape)
        torch.Size([50, 3, 32, 32]) torch.float32 torch.Size([50])
        torch.Size([50, 3, 32, 32]) torch.float32 torch.Size([50])
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int = 64,
        shuffle: bool = False,
        drop_last: bool = False,
        augmentation: Augmentation | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        _check_images(images, labels, classes)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = labels.to(images.device)
        self.batch_size: int = validate("batch_size", batch_size, PositiveInt)
        self.augmentation = _check_augmentation(augmentation)
        self.transform: Transform | None = validate("transform", transform, Callable | None)
        self.seed: int = validate("seed", seed, Seed)
        self.classes = classes
        self._shuffle: bool = validate("shuffle", shuffle, StrictBool)
        self._drop_last: bool = validate("drop_last", drop_last, StrictBool)
        self.epoch = 0
        self._shard = (0, 1)
        self._fill = images.new_zeros(3)
        if augmentation is not None:
            limit, side = augmentation.translate, min(images.shape[2:])
            if limit >= side:
                raise InvalidValueError(f"translate is {limit}: expected less than {side} pixels")
            if augmentation.cutout or augmentation.erase:
                self._fill = _mean_colour(self.images)
        self._check_not_empty()

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.images)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (not self._drop_last and rest > self._shard[0])

    def __iter__(self) -> Iterator[Batch]:
        """Return the batches of the next epoch.

        Images are float32 (batch,3,H,W) in [0, 1], channels_last; labels are int64 (batch,).
        """
        return self.iter_from(0)

    def iter_from(self, batch: int) -> Iterator[Batch]:
        """Return the batches of the next epoch without the first `batch` ones."""
        _check_range("batch", batch, 0, len(self))
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next `iter()`, 0 or more."""
        self.epoch = validate("epoch", epoch, NonNegativeInt)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines the batches, with about 256 of the images."""
        options = (self.batch_size, self.seed, self.augmentation, self._shuffle, self._drop_last)
        transform = stable_repr(self.transform)
        found = hashlib.sha256(repr((self.n, self._shard, options, transform)).encode())
        for tensor in (self.labels, self.images[:: max(1, self.n // FINGERPRINT_IMAGES)]):
            found.update(tensor.contiguous().cpu().numpy().tobytes())
        return found.hexdigest()[:16]

    def in_order(self, batch_size: int | None = None) -> Self:
        """Return a loader of the same images in order and without augmentation."""
        size = self.batch_size if batch_size is None else batch_size
        ordered = copy.copy(self)
        ordered.batch_size = validate("batch_size", size, PositiveInt)
        ordered.augmentation = ordered.transform = None
        ordered._shuffle = ordered._drop_last = False
        ordered.epoch, ordered._shard = 0, (0, 1)
        return ordered

    def first(self, n: int) -> Self:
        """Return the same loader with only the first n images, or all if there are fewer."""
        n = validate("n", n, PositiveInt)
        part = copy.copy(self)
        part.images, part.labels = self.images[:n], self.labels[:n]
        part._check_not_empty()
        return part

    def shard(self, index: int, count: int) -> Self:
        """Return the loader of one of several processes, at the same epoch.

        Each batch of `batch_size` images is divided among the processes, with the same augmentation
        and without repetition. If its size is not divisible, the first processes get one image
        more; if the last batch is small, some processes get one batch fewer.

        Args:
            index: index of the process, 0 to count - 1.
            count: number of processes, 1 to the batch size.
        """
        _check_range("count", count, 1, self.batch_size)
        _check_range("index", index, 0, count - 1)
        if self._shard != (0, 1):
            raise InvalidValueError("the loader is a shard: expected a whole loader")
        part = copy.copy(self)
        part._shard = (index, count)
        part._check_not_empty()
        return part

    def with_seed(self, seed: int) -> Self:
        """Return the same loader, at the same epoch, with another seed."""
        other = copy.copy(self)
        other.seed = validate("seed", seed, Seed)
        return other

    def to(self, device: str | torch.device) -> Self:
        """Return the same loader, at the same epoch, with its images on a device."""
        target = resolve_device(device)
        moved = copy.copy(self)
        moved.images, moved.labels = self.images.to(target), self.labels.to(target)
        moved._fill = self._fill.to(target)
        return moved

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        device, order, params = self.images.device, torch.arange(self.n), Params()
        if self._shuffle:
            generator = generator_for("order", seed=self.seed, epoch=epoch)
            order = torch.randperm(self.n, generator=generator)
        if self.augmentation is not None:
            size = self.images.shape[2:]
            params = draw(self.augmentation, self.n, size=size, seed=self.seed, epoch=epoch)
            params = {name: values.to(device) for name, values in params.items()}
        index, count = self._shard
        batches = torch.split(order.to(device), self.batch_size)[: len(self)]
        for number in range(start, len(batches)):
            indices = batches[number].tensor_split(count)[index]
            chosen = {name: values.index_select(0, indices) for name, values in params.items()}
            images = self._batch(indices, chosen, epoch=epoch, number=number)
            yield images, self.labels.index_select(0, indices)

    def _batch(self, indices: Tensor, params: Params, *, epoch: int, number: int) -> Tensor:
        pixels = gather(self.images, indices)
        if self.augmentation is not None:
            pixels = apply(pixels, params, self.augmentation, fill=self._fill)
        if self.transform is not None:
            position = (epoch, number, self._shard[0])
            pixels = transform_images(pixels, self.transform, seed=self.seed, position=position)
        if pixels.is_floating_point():
            return pixels.to(torch.float32)
        return pixels.to(torch.float32).div_(255)

    @override
    def __repr__(self) -> str:
        options = {
            "batch_size": self.batch_size,
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
            "augmentation": self.augmentation,
            "transform": self.transform,
            "seed": self.seed,
        }
        size = "x".join(map(str, self.images.shape[1:]))
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items() if value)
        return f"TensorLoader({self.n} images {size}, {shown})"

    def _check_not_empty(self) -> None:
        if not len(self):
            size, drop_last, (index, count) = self.batch_size, self._drop_last, self._shard
            process = f" for process {index} of {count}" if count > 1 else ""
            raise InvalidValueError(
                f"{self.n} images, batch_size={size} and drop_last={drop_last} make no batch"
                f"{process}: expected at least one"
            )


def _check_augmentation(value: Augmentation | None) -> Augmentation | None:
    if value is None or isinstance(value, Augmentation):
        return value
    raise InvalidTypeError(
        f"augmentation is a {type(value).__name__}: expected a cifarzoo.Augmentation or None; pass "
        "your own function or a torchvision transform as transform"
    )


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if validate(name, value, int) not in range(low, high + 1):
        raise InvalidValueError(f"{name} is {value}: expected {low} to {high}")


def _check_images(images: Tensor, labels: Tensor, classes: tuple[str, ...] | None) -> None:
    values: Any = (("images", images, torch.uint8), ("labels", labels, torch.int64))
    for name, value, dtype in values:
        if not isinstance(value, Tensor) or not is_dense(value) or value.dtype != dtype:
            kind = f"{type(value).__name__} of {getattr(value, 'dtype', 'no dtype')}"
            raise InvalidTypeError(f"{name} are a {kind}: expected a dense tensor of {dtype}")
    if images.ndim != 4 or images.shape[1] != 3 or labels.shape != images.shape[:1]:
        raise InvalidValueError(
            f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}: expected "
            "(N, 3, H, W) and (N,); images.permute(0, 3, 1, 2) converts (N, H, W, 3)"
        )
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or (classes is not None and high >= len(classes)):
        limit = "0 or more" if classes is None else f"0..{len(classes) - 1}"
        raise InvalidValueError(f"labels are in {low}..{high}: expected {limit}")


def gather(rows: Tensor, indices: Tensor) -> Tensor:
    """Select rows (N,...); rows of a channels_last tensor are contiguous as (N,H,W,C)."""
    if rows.ndim != 4:
        return rows.index_select(0, indices)
    return rows.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)


def _mean_colour(images: Tensor) -> Tensor:
    """Return the mean colour, uint8 (3,)."""
    # In parts, because `sum` converts its input to int64.
    total = torch.stack([part.sum(dim=(0, 2, 3)) for part in torch.split(images, 1000)]).sum(dim=0)
    return (total / (images.numel() // 3)).round().to(torch.uint8)


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor is not sparse, quantized, nested or meta."""
    is_odd = tensor.is_meta or tensor.is_quantized or tensor.is_nested
    return tensor.layout == torch.strided and not is_odd


def labelled_batch(batch: object) -> Batch:
    """Return the images and labels of a loader's batch.

    Raises:
        InvalidTypeError: the batch is not a pair of dense tensors with a batch dimension.
    """
    match batch:
        case (Tensor() as images, Tensor() as labels):
            if is_dense(images) and is_dense(labels) and images.ndim and labels.ndim:
                return images, labels
    raise InvalidTypeError(
        f"a batch is a {type(batch).__name__}: expected a pair (images, labels) of dense tensors, "
        "(N,C,H,W) and (N,); TensorLoader(images, labels) makes batches of tensors"
    )


def start_epoch(loader: BatchLoader, epoch: int, seed: int) -> None:
    """Call `set_epoch` of a loader and its parts, and seed their generators.

    The parts are the samplers and data sets inside a `DataLoader`, or the loader inside another.
    """
    for part in {id(part): part for part in _parts(loader)}.values():
        if isinstance(part, HasEpochs):
            part.set_epoch(epoch)
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


def _parts(loader: object) -> Iterator[object]:
    yield loader
    for name in ("loader", "sampler", "batch_sampler", "dataset"):
        inner = getattr(loader, name, None)
        if inner is not None:
            yield from _parts(inner)
    for inner in getattr(loader, "datasets", ()):  # of a ConcatDataset
        yield from _parts(inner)


def to_device(loader: BatchLoader, device: str | torch.device) -> BatchLoader:
    """Move a `TensorLoader` to a device; other loaders are returned unchanged."""
    return loader.to(device) if isinstance(loader, TensorLoader) else loader


@dataclass(frozen=True, slots=True)
class TensorLoaders(Loaders):
    """The loaders of a data set in memory; `val` is None if no images are held out."""

    train: TensorLoader
    val: TensorLoader | None
    test: TensorLoader


def cifar10_loaders(
    batch_size: int | None = None,
    *,
    recipe: Recipe | None = None,
    root: str | Path | None = None,
    val_fraction: float | None = None,
    augmentation: Augmentation | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    download: bool = True,
) -> TensorLoaders:
    """Load CIFAR-10 as three loaders.

    The training loader shuffles, and drops the last batch if it is smaller than the others; the
    validation and test loaders return all images in order, in batches of 250. The validation images
    are the same for every seed: the first ones of a permutation by numpy's RandomState(0).

    Args:
        batch_size: images per training step; None for the recipe's.
        recipe: provides what is not passed: batch size, validation fraction and augmentation; None
            for `Recipe()`, which has 64 images, a tenth of the images, and no augmentation.
        root: where the data is, see `cifarzoo.data.load_cifar10`; by default CIFARZOO_DATA or the
            user's cache.
        val_fraction: fraction of the training images held out for validation, in [0, 1); None for
            the recipe's.
        augmentation: augmentation of the training images; None for the recipe's.
        transform: your own augmentation of the training images, as in `TensorLoader`.
        seed: seed of the training images' order and augmentation, 0 or more; `fit` uses its own
            instead.
        download: whether to download the data if it is not found.

    Returns:
        Loaders of float32 images (N,3,32,32) in [0, 1] and labels (N,), on the CPU.

    Raises:
        DataNotFoundError, DataCorruptError, DownloadError: as in `load_cifar10`.

    Example:
        >>> recipe = model_card("resnet20").recipe  # doctest: +SKIP
        >>> loaders = cifar10_loaders(recipe=recipe)  # doctest: +SKIP
        >>> history = fit(build_model("resnet20"), loaders, recipe)  # doctest: +SKIP
    """
    data = load_cifar10(root, download=download)
    options = {"batch_size": batch_size, "val_fraction": val_fraction, "augmentation": augmentation}
    return _split(data, CLASSES, recipe, options, transform=transform, seed=seed)


def cifar100_loaders(
    batch_size: int | None = None,
    *,
    superclasses: bool = False,
    recipe: Recipe | None = None,
    root: str | Path | None = None,
    val_fraction: float | None = None,
    augmentation: Augmentation | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    download: bool = True,
) -> TensorLoaders:
    """Load CIFAR-100 as three loaders, as `cifar10_loaders` does for CIFAR-10.

    Args:
        batch_size: as in `cifar10_loaders`.
        superclasses: whether labels are the 20 superclasses instead of the 100 classes.
        recipe: as in `cifar10_loaders`.
        root: as in `cifar10_loaders`.
        val_fraction: as in `cifar10_loaders`.
        augmentation: as in `cifar10_loaders`.
        transform: as in `cifar10_loaders`.
        seed: as in `cifar10_loaders`.
        download: as in `cifar10_loaders`.

    Returns:
        Loaders of float32 images (N,3,32,32) in [0, 1] and labels (N,), on the CPU.

    Raises:
        DataNotFoundError, DataCorruptError, DownloadError: as in `load_cifar10`.

    Example:
        >>> run = train("resnet20", data=cifar100_loaders(superclasses=True))  # doctest: +SKIP
    """
    superclasses = validate("superclasses", superclasses, StrictBool)
    data = load_cifar100(root, superclasses=superclasses, download=download)
    classes = CIFAR100_SUPERCLASSES if superclasses else CIFAR100_CLASSES
    options = {"batch_size": batch_size, "val_fraction": val_fraction, "augmentation": augmentation}
    return _split(data, classes, recipe, options, transform=transform, seed=seed)


def shapes_loaders(
    batch_size: int | None = None,
    *,
    recipe: Recipe | None = None,
    n_train: int = 20_000,
    n_test: int = 4_000,
    val_fraction: float | None = None,
    augmentation: Augmentation | None = None,
    transform: Transform | None = None,
    seed: int = 0,
) -> TensorLoaders:
    """Draw the built-in shapes as three loaders; no files are needed.

    Args:
        batch_size: as in `cifar10_loaders`.
        recipe: as in `cifar10_loaders`.
        n_train: number of training and validation images.
        n_test: number of test images.
        val_fraction: as in `cifar10_loaders`.
        augmentation: as in `cifar10_loaders`.
        transform: as in `cifar10_loaders`.
        seed: as in `cifar10_loaders`; the images themselves are the same for every seed.

    Returns:
        Loaders of float32 images (N,3,32,32) in [0, 1] and labels (N,), on the CPU.
    """
    data = load_shapes(n_train, n_test)
    options = {"batch_size": batch_size, "val_fraction": val_fraction, "augmentation": augmentation}
    return _split(data, SHAPE_CLASSES, recipe, options, transform=transform, seed=seed)


def _split(
    data: ImageData,
    classes: tuple[str, ...],
    recipe: Recipe | None,
    options: dict[str, Any],
    **others: Any,  # noqa: ANN401 - for the training loader
) -> TensorLoaders:
    base = Recipe() if recipe is None else validate("recipe", recipe, InstanceOf[Recipe])
    own = {k: getattr(base, k) if value is None else value for k, value in options.items()}
    n = len(data.train_images)
    cut = round(validate("val_fraction", own.pop("val_fraction"), Fraction) * n)
    # As in the report: np.random.choice without replacement, with seed 0.
    order = torch.from_numpy(np.random.RandomState(0).permutation(n))
    val, train = (part.sort().values for part in order.tensor_split([cut]))

    def chosen(indices: Tensor) -> Batch:
        return gather(data.train_images, indices), data.train_labels.index_select(0, indices)

    def scoring(images: Tensor, labels: Tensor) -> TensorLoader:
        return TensorLoader(images, labels, batch_size=SCORING_BATCH_SIZE, classes=classes)

    return TensorLoaders(
        TensorLoader(
            *chosen(train), shuffle=True, drop_last=True, classes=classes, **(own | others)
        ),
        scoring(*chosen(val)) if cut else None,
        scoring(data.test_images, data.test_labels),
    )
