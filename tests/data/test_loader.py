"""Tests of `TensorLoader`, of what is a loader, and of the data sets' loaders."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo.data.cifar import CLASSES, ImageData
from cifarzoo.data.loader import (
    Batch,
    Fingerprinted,
    HasEpochs,
    Loaders,
    Resumable,
    Shardable,
    TensorLoader,
    cifar10_loaders,
    labelled_batch,
    shapes_loaders,
    to_device,
)
from cifarzoo.data.shapes import SHAPE_CLASSES
from cifarzoo.errors import CifarZooError, InvalidTypeError, InvalidValueError
from cifarzoo.recipe import Augmentation

ALL = Augmentation(flip="alternating", translate=2, cutout=3, padding="reflect", rand_augment=1)


def numbered(n: int) -> tuple[Tensor, Tensor]:
    """Return n images, each of its own colour, and their numbers as labels."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 8, 8)
    return images.contiguous(), torch.arange(n)


def make(n: int = 20, *, batch_size: int = 6, **options: Any) -> TensorLoader:  # noqa: ANN401
    return TensorLoader(*numbered(n), batch_size=batch_size, **options)


def labels_of(batches: Iterable[Batch]) -> list[int]:
    return [label for _, labels in batches for label in labels.tolist()]


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


# TensorLoader


@given(n=st.integers(1, 40), size=st.integers(1, 45), drop_last=st.booleans())
def test_batches_agree_with_torchs_loader(n: int, size: int, drop_last: bool) -> None:
    theirs = DataLoader(TensorDataset(*numbered(n)), size, drop_last=drop_last)
    if not len(theirs):
        with pytest.raises(InvalidValueError, match="no batch"):
            make(n, batch_size=size, drop_last=drop_last)
        return
    ours = make(n, batch_size=size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    assert same(ours, [(images / 255, labels) for images, labels in theirs])
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in ours)
    shuffled = make(n, batch_size=size, drop_last=drop_last, shuffle=True)
    assert [len(labels) for _, labels in shuffled] == [len(labels) for _, labels in theirs]
    assert len(set(labels_of(shuffled))) == len(labels_of(theirs))


def test_each_iteration_is_the_next_epoch_and_set_epoch_repeats_one() -> None:
    loader = make(shuffle=True, augmentation=ALL)
    epochs = [list(loader) for _ in range(3)]
    assert loader.epoch == 3
    assert len({tuple(labels_of(epoch)) for epoch in epochs}) == 3
    for epoch in (2, 0, 1):
        loader.set_epoch(epoch)
        assert same(loader, epochs[epoch])
    loader.set_epoch(0)
    mixed = list(zip(loader, loader, strict=True))  # two epochs at the same time
    assert same([one for one, _ in mixed], epochs[0])
    assert same([other for _, other in mixed], epochs[1])


@given(start=st.integers(0, 4), epoch=st.integers(0, 3), seed=st.integers(0, 3))
def test_a_resumed_epoch_is_the_rest_of_the_whole_one(start: int, epoch: int, seed: int) -> None:
    loader = make(shuffle=True, augmentation=ALL, seed=seed)
    loader.set_epoch(epoch)
    whole = list(loader)
    loader.set_epoch(epoch)
    assert same(loader.iter_from(start), whole[start:])
    assert loader.epoch == epoch + 1


def test_the_seed_alone_determines_order_and_augmentation() -> None:
    before = torch.get_rng_state()
    first = list(make(shuffle=True, augmentation=ALL, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert same(make(shuffle=True, augmentation=ALL, seed=1), first)
    assert labels_of(make(shuffle=True, augmentation=ALL, seed=2)) != labels_of(first)
    assert labels_of(make(shuffle=True, seed=1)) == labels_of(first)


def test_cutout_is_filled_with_the_mean_colour() -> None:
    images = torch.zeros(2500, 3, 4, 4, dtype=torch.uint8)
    images[:1250, 0], images[:1250, 1] = 100, 7
    loader = TensorLoader(images, torch.zeros(2500).long(), augmentation=Augmentation(cutout=32))
    found, _ = next(iter(loader))
    assert (found[0, :, 0, 0] * 255).round().tolist() == [50, 4, 0]


def test_in_order_has_the_same_images_without_augmentation() -> None:
    training = make(shuffle=True, drop_last=True, augmentation=ALL, classes=("x",) * 20)
    next(iter(training))
    assert same(training.in_order(), make())
    assert same(training.shard(1, 2).in_order(20), make(batch_size=20))
    assert training.in_order().images.data_ptr() == training.images.data_ptr()


def test_first_keeps_the_epoch() -> None:
    whole = make(shuffle=True, drop_last=True, augmentation=ALL)
    whole.set_epoch(2)
    part = whole.first(12)
    assert (part.n, len(part), part.epoch, whole.n) == (12, 2, 2, 20)
    assert sorted(labels_of(part)) == list(range(12))
    assert whole.first(99).n == 20


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    count=st.integers(1, 5),
    drop_last=st.booleans(),
)
def test_shards_are_a_partition_of_every_batch(
    n: int, batch_size: int, count: int, drop_last: bool
) -> None:
    assume(count <= batch_size <= n)
    whole = make(n, batch_size=batch_size, drop_last=drop_last, shuffle=True, augmentation=ALL)
    shards = [whole.shard(index, count) for index in range(count)]
    assert len({shard.fingerprint for shard in shards}) == count
    found = [list(shard) for shard in shards]
    assert [len(batches) for batches in found] == [len(shard) for shard in shards]
    for batch, parts in zip(whole, itertools.zip_longest(*found), strict=True):
        present = [part for part in parts if part is not None]
        sizes = [len(labels) for _, labels in present]
        assert max(sizes) - min(sizes) <= 1
        joined = [torch.cat(pieces) for pieces in zip(*present, strict=True)]
        assert same([batch], [(joined[0], joined[1])])
    shards[0].set_epoch(0)
    assert same(shards[0].iter_from(1), found[0][1:])


IMAGES, LABELS = numbered(20)


def test_the_fingerprint_covers_everything_that_changes_the_batches() -> None:
    usual: dict[str, Any] = {"images": IMAGES, "labels": LABELS, "batch_size": 2}
    changes: tuple[dict[str, Any], ...] = (
        {"images": 255 - IMAGES},
        {"labels": LABELS.flip(0)},
        {"images": IMAGES[:19], "labels": LABELS[:19]},
        {"batch_size": 3},
        {"seed": 1},
        {"shuffle": True},
        {"drop_last": True},
        {"augmentation": Augmentation(flip="random")},
    )
    fingerprints = {TensorLoader(**{**usual, **change}).fingerprint for change in changes}
    same_data = [TensorLoader(**{**usual, "images": IMAGES.clone()}).fingerprint for _ in range(2)]
    assert len(fingerprints | {*same_data}) == len(changes) + 1


def test_moving_keeps_epoch_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make(shuffle=True, augmentation=Augmentation(flip="random", translate=2, cutout=3))
    loader.set_epoch(3)
    moved = to_device(loader, "cuda" if torch.cuda.is_available() else "cpu")
    assert same([(images.cpu(), labels.cpu()) for images, labels in moved], loader)
    monkeypatch.setattr("cifarzoo.data.loader.resolve_device", torch.device)  # accepts "meta"
    batch = next(iter(to_device(loader, "meta")))  # fails if a tensor has not been moved
    assert all(tensor.is_meta for tensor in batch)
    batches = [numbered(3)]
    assert to_device(batches, "meta") is batches


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": IMAGES.numpy()}, InvalidTypeError, "images are a ndarray of uint8: expected"),
        ({"images": IMAGES.to_sparse()}, InvalidTypeError, "a dense tensor of torch.uint8"),
        ({"labels": LABELS.int()}, InvalidTypeError, "torch.int64"),
        ({"images": IMAGES.permute(0, 2, 3, 1)}, InvalidValueError, "permute"),
        ({"images": IMAGES[0]}, InvalidValueError, "(N, 3, H, W)"),
        ({"labels": LABELS[:3]}, InvalidValueError, "(3,)"),
        ({"labels": LABELS - 1}, InvalidValueError, "labels are in -1..18: expected 0 or more"),
        ({"classes": ("cat", "dog")}, InvalidValueError, "0..19: expected 0..1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, InvalidValueError, "0 images"),
        ({"batch_size": 0}, InvalidValueError, "batch_size is 0"),
        ({"batch_size": "64"}, InvalidTypeError, "batch_size is '64'"),
        ({"seed": -1}, InvalidValueError, "seed is -1"),
        ({"shuffle": "never"}, InvalidTypeError, "shuffle is 'never'"),
        ({"augmentation": Augmentation(translate=8)}, InvalidValueError, "less than 8 pixels"),
    ],
)
def test_invalid_arguments_are_rejected(
    changes: dict[str, Any], error: type[CifarZooError], message: str
) -> None:
    with pytest.raises(error) as caught:
        TensorLoader(**{"images": IMAGES, "labels": LABELS, **changes})
    assert message in str(caught.value)


def test_numbers_out_of_range_are_rejected() -> None:
    loader = make()
    for call in (
        lambda: loader.iter_from(5),
        lambda: loader.iter_from(-1),
        lambda: loader.set_epoch(-1),
        lambda: loader.first(0),
        lambda: make(drop_last=True).first(5),
        lambda: loader.in_order(0),
        lambda: loader.shard(2, 2),
        lambda: loader.shard(0, 7),
        lambda: loader.shard(0, 2).shard(0, 2),
        lambda: make(3).shard(3, 4),
        lambda: loader.to("warp"),
    ):
        with pytest.raises(InvalidValueError):
            call()


# What counts as a loader


def test_any_iterable_of_batches_with_a_length_is_a_loader() -> None:
    theirs: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(*numbered(4)), batch_size=2)
    assert len(Loaders(theirs, [numbered(3)], make()).train) == 2
    assert not isinstance(theirs, HasEpochs)
    for protocol in (HasEpochs, Resumable, Fingerprinted, Shardable):
        assert isinstance(make(), protocol)


@pytest.mark.parametrize("wrong", [numbered(2), numbered(2)[0], iter([]), 3])
def test_anything_else_is_not_a_loader(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidTypeError, match=r"train is a \w+: expected"):
        Loaders(wrong)
    with pytest.raises(InvalidTypeError, match=r"val is a \w+: expected"):
        Loaders([], wrong)


def test_a_batch_is_a_pair_of_dense_tensors() -> None:
    assert labelled_batch([IMAGES, LABELS]) == (IMAGES, LABELS)
    for wrong in (
        {"images": IMAGES, "labels": LABELS},
        IMAGES,
        (IMAGES, [1, 2]),
        (IMAGES, LABELS, LABELS),
        (IMAGES.to_sparse(), LABELS),
        (IMAGES, LABELS.to("meta")),
        (IMAGES, torch.tensor(1)),
    ):
        with pytest.raises(InvalidTypeError, match="expected a pair"):
            labelled_batch(wrong)


# The data sets


def test_only_training_images_are_shuffled_and_augmented() -> None:
    loaders, other = (
        shapes_loaders(32, n_train=1000, n_test=300, augmentation=ALL, seed=seed) for seed in (0, 1)
    )
    assert loaders.val is not None
    assert [loader.n for loader in (loaders.train, loaders.val, loaders.test)] == [900, 100, 300]
    assert [len(loader) for loader in (loaders.train, loaders.val, loaders.test)] == [28, 1, 2]
    assert loaders.train.augmentation == ALL
    assert loaders.val.augmentation is None
    assert loaders.train.classes == loaders.test.classes == SHAPE_CLASSES
    assert torch.equal(other.train.images, loaders.train.images)
    assert labels_of(other.train) != labels_of(loaders.train)


@given(n=st.integers(1, 60), fraction=st.floats(0, 0.9))
def test_training_and_validation_images_are_a_partition(n: int, fraction: float) -> None:
    assume(round(fraction * n) < n)
    data = ImageData(*numbered(n), *numbered(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifarzoo.data.loader.load_cifar10", lambda root, *, download: data)
        patch.setattr("cifarzoo.data.loader.CLASSES", ("x",) * n)
        loaders = cifar10_loaders(1, val_fraction=fraction)
    held_out = [] if loaders.val is None else labels_of(loaders.val)
    assert len(held_out) == round(fraction * n)
    assert sorted(labels_of(loaders.train) + held_out) == list(range(n))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range_are_rejected(fraction: float) -> None:
    with pytest.raises(InvalidValueError, match="val_fraction"):
        shapes_loaders(n_train=20, n_test=10, val_fraction=fraction)


@pytest.mark.data
def test_the_validation_images_of_cifar10_are_those_of_the_report(real_root: Path) -> None:
    loaders = cifar10_loaders(root=real_root, download=False)
    assert loaders.val is not None
    assert [len(loader) for loader in (loaders.train, loaders.val, loaders.test)] == [703, 20, 40]
    assert loaders.train.classes == CLASSES
    whole = cifar10_loaders(root=real_root, val_fraction=0).train
    chosen = np.random.RandomState(0).choice(50_000, size=5_000, replace=False)
    assert torch.equal(loaders.val.images, whole.images[np.sort(chosen)])
