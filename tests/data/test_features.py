from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo.data.feature_store import CPU_BATCH, FrozenNetwork, state_fingerprint
from cifarzoo.data.features import (
    FeatureLoader,
    ResumableFeatureLoader,
    TensorFeatureLoader,
    feature_loaders,
)
from cifarzoo.data.loaders import BatchLoader, Loaders, Resumable, TensorLoader
from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.spec import Augmentation

ROW_BYTES = 2 * 3 * 3 * 4


class Counting(nn.Module):
    """A frozen network that counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3, stride=3), nn.BatchNorm2d(2))
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        features: Tensor = self.layers(images)
        return features


def pixels(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, 9, 9), dtype=torch.uint8, generator=generator)


def training(n: int, batch_size: int = 4, augmentation: Augmentation | None = None) -> TensorLoader:
    return TensorLoader(
        pixels(n),
        torch.arange(n),
        batch_size=batch_size,
        shuffle="every_epoch",
        last_batch="drop",
        augmentation=augmentation,
    )


def scoring(n: int) -> TensorLoader:
    return TensorLoader(pixels(n, 1), torch.arange(n), batch_size=5)


def features_of(
    loader: BatchLoader, frozen: nn.Module, memory_limit_bytes: int = 2**20
) -> BatchLoader:
    loaders = Loaders(loader)
    limit = memory_limit_bytes
    return feature_loaders(
        frozen, loaders, memory_limit_bytes=limit, device="cpu", precision="float32", progress=False
    ).train


def assert_same(
    found: Iterable[tuple[Tensor, Tensor]],
    images: Iterable[tuple[Tensor, Tensor]],
    frozen: nn.Module,
) -> None:
    """Every batch is what the frozen network makes of the images' batch."""
    for (features, labels), (batch, wanted) in zip(found, images, strict=True):
        assert torch.equal(labels, wanted)
        assert features.dtype == torch.float32
        assert not features.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(features, frozen.eval()(batch), check_stride=False)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(4, 70),
    kept=st.integers(0, 80),
    batch_size=st.integers(1, 4),
    epochs=st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_features_follow_the_images_whatever_is_kept(
    n: int, kept: int, batch_size: int, epochs: list[int]
) -> None:
    frozen, loader = Counting(), training(n, batch_size)
    found = features_of(loader, frozen, kept * ROW_BYTES)
    assert isinstance(found, TensorFeatureLoader)
    assert len(found) == len(loader)
    for epoch in epochs:
        found.set_epoch(epoch)
        loader.set_epoch(epoch)
        assert_same(found, loader, frozen)
        assert_same(found, loader, frozen)  # the epoch after that


def test_kept_features_are_computed_once() -> None:
    frozen = Counting()
    found = features_of(training(70), frozen)
    seen = frozen.seen
    assert 70 <= seen <= 75  # single images are tried for their size
    for _ in range(3):
        list(found)
    assert frozen.seen == seen


@pytest.mark.parametrize("kept", [0, 1, 39, 40])
def test_past_the_limit_they_are_computed_in_every_epoch(kept: int) -> None:
    frozen = Counting()
    found = features_of(training(40), frozen, kept * ROW_BYTES + ROW_BYTES - 1)
    before = frozen.seen
    for epoch in range(1, 4):
        list(found)
        assert frozen.seen - before == epoch * (40 - kept)


def test_the_limit_is_shared_and_validation_comes_first() -> None:
    frozen, images = Counting(), Loaders(training(20), scoring(10), scoring(15))
    limit = 25 * ROW_BYTES  # of float32; where "auto" is bfloat16, twice as many would fit
    loaders = feature_loaders(
        frozen,
        images,
        memory_limit_bytes=limit,
        device="cpu",
        precision="float32",
        progress=False,
    )
    assert loaders.val is not None
    assert loaders.test is not None
    computed = []
    for loader in (loaders.val, loaders.train, loaders.test):
        before = frozen.seen
        list(loader)
        computed.append(frozen.seen - before)
    assert computed == [0, 5, 15]


def test_augmented_images_leave_the_memory_to_others() -> None:
    frozen, augmented = Counting(), training(20, augmentation=Augmentation(flip="random"))
    loaders = feature_loaders(
        frozen,
        Loaders(augmented, test=scoring(15)),
        memory_limit_bytes=15 * ROW_BYTES,
        device="cpu",
        precision="float32",
        progress=False,
    )
    assert loaders.val is None
    assert loaders.test is not None
    before = frozen.seen
    list(loaders.test)
    assert frozen.seen == before
    list(loaders.train)
    assert frozen.seen == before + 20
    only = feature_loaders(frozen, Loaders(training(4)), device="cpu", progress=False)
    assert (only.val, only.test) == (None, None)


@pytest.mark.parametrize("kept", [0, 30, 70])
def test_features_may_be_rows_of_numbers(kept: int) -> None:
    frozen, loader = nn.Sequential(Counting(), nn.Flatten()), training(70)
    assert_same(features_of(loader, frozen, kept * ROW_BYTES), loader, frozen)


@pytest.mark.parametrize("n", [1, CPU_BATCH, 2 * CPU_BATCH + 3])
def test_a_frozen_network_takes_any_number_of_images(n: int) -> None:
    module = Counting().eval()
    images = pixels(n)
    found = FrozenNetwork(module, torch.device("cpu"), torch.float32)(images)
    assert module.seen == n
    with torch.no_grad():
        torch.testing.assert_close(found, module(images / 255), check_stride=False)


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_where_it_is_wanted(
    shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    loaders = Loaders(training(70))
    feature_loaders(Counting(), loaders, device="cpu", progress=shown)
    told = capsys.readouterr().err
    if shown:
        assert "frozen layers:   0%|" in told
        assert "0/70" in told
        assert "image/s]" in told
        assert not told.endswith("\n")  # the bar is taken away
    else:
        assert told == ""


def test_loaders_of_images_are_left_alone() -> None:
    loader = training(12)
    loader.set_epoch(3)
    found = features_of(loader, Counting())
    list(found)
    assert loader.epoch == 3


@given(batch=st.integers(0, 5))
def test_an_epoch_can_be_taken_up_in_its_middle(batch: int) -> None:
    frozen, loader = Counting(), training(20)
    found = features_of(loader, frozen, 7 * ROW_BYTES)
    assert isinstance(found, TensorFeatureLoader)
    found.set_epoch(2)
    whole = list(found)
    found.set_epoch(2)
    rest = list(found.iter_from(batch))
    assert len(rest) == 5 - batch
    for (features, labels), (again, same) in zip(whole[batch:], rest, strict=True):
        assert torch.equal(features, again)
        assert torch.equal(labels, same)
    with pytest.raises(OptionError, match="batch is 6; allowed: whole numbers, 0 to 5"):
        found.iter_from(6)


@pytest.mark.parametrize("kept", [0, 13, 40])
def test_in_order_gives_every_image_from_the_same_memory(kept: int) -> None:
    frozen, loader = Counting(), training(41, batch_size=3)
    found = features_of(loader, frozen, kept * ROW_BYTES)
    assert isinstance(found, TensorFeatureLoader)
    before = frozen.seen
    batches = list(found.in_order(batch_size=10))
    assert frozen.seen - before == 41 - kept
    assert_same(batches, loader.in_order(batch_size=10), frozen)


def test_augmented_images_are_computed_as_they_come() -> None:
    frozen, loader = Counting(), training(12, augmentation=Augmentation(flip="random"))
    found = features_of(loader, frozen)
    assert isinstance(found, TensorFeatureLoader)
    for epoch in range(3):
        loader.set_epoch(epoch)
        assert_same(found, loader, frozen)
    assert_same(found.in_order(), loader.in_order(), frozen)


def test_any_other_loader_is_computed_as_it_comes() -> None:
    frozen = Counting()
    data = TensorDataset(torch.rand(10, 3, 9, 9), torch.arange(10))
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(data, batch_size=4)
    found = features_of(loader, frozen)
    assert isinstance(found, FeatureLoader)
    assert len(found) == 3
    assert_same(found, loader, frozen)
    found.set_epoch(1)
    # `fit` then resumes it as it does the DataLoader itself, whose order it has to draw again.
    assert not isinstance(found, Resumable)


class Epochs:
    """A loader with epochs that is not ours."""

    def __init__(self) -> None:
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterable[tuple[Tensor, Tensor]]:
        return self.iter_from(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def iter_from(self, batch: int) -> Iterable[tuple[Tensor, Tensor]]:
        self.start = batch
        return iter([(torch.rand(1, 3, 9, 9), torch.tensor([self.epoch]))])


def test_another_loaders_epochs_are_passed_on() -> None:
    loader = Epochs()
    found = features_of(loader, Counting())  # type: ignore[arg-type]
    assert isinstance(found, ResumableFeatureLoader)
    found.set_epoch(4)
    ((_, labels),) = found.iter_from(1)
    assert (labels.item(), loader.start) == (4, 1)


def test_fingerprint_knows_the_images_and_the_network() -> None:
    def fingerprint(seed: int, n: int) -> str:
        torch.manual_seed(seed)
        found = features_of(training(n), nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)))
        assert isinstance(found, TensorFeatureLoader)
        return found.fingerprint

    assert fingerprint(0, 12) == fingerprint(0, 12)
    assert len({fingerprint(0, 12), fingerprint(1, 12), fingerprint(0, 10)}) == 3


def test_the_frozen_network_is_put_into_evaluation_mode() -> None:
    frozen = Counting().train()
    statistics = frozen.state_dict()["layers.1.running_mean"].clone()
    list(features_of(training(12), frozen, 4 * ROW_BYTES))
    assert not any(module.training for module in frozen.modules())
    assert torch.equal(frozen.state_dict()["layers.1.running_mean"], statistics)


def test_bfloat16_features_take_half_the_memory_and_come_as_float32() -> None:
    frozen = nn.Sequential(nn.Conv2d(3, 2, 3, stride=3))
    loaders = feature_loaders(
        frozen,
        Loaders(training(40)),
        memory_limit_bytes=40 * ROW_BYTES // 2,
        device="cpu",
        precision="bfloat16",
        progress=False,
    )
    before = [features for features, _ in loaders.train]
    frozen.requires_grad_(False)[0].weight.zero_()  # type: ignore[operator]
    assert all(features.dtype == torch.float32 for features in before)
    assert all(features.any() for features, _ in loaders.train)  # all forty were kept


def test_what_trains_on_features_gets_gradients() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(18, 2))
    for limit in (0, 2**20):
        features, _ = next(iter(features_of(training(12), Counting(), limit)))
        torch.autograd.backward(head(features).sum())
    assert all(parameter.grad is not None for parameter in head.parameters())


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> object:
        return {
            "pair": (images, images),
            "merged": images.flatten(0, 1),
            "whole numbers": images.long(),
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pair", r"makes a tuple of images \(1, 3, 9, 9\); needed is one tensor of floats"),
        ("merged", r"makes torch.float32 \(3, 9, 9\) of"),
        ("whole numbers", r"makes torch.int64 \(1, 3, 9, 9\) of"),
    ],
)
def test_a_network_that_gives_no_features_is_refused(kind: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        features_of(training(12), Wrong(kind))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["weights", "pixels"])
def test_features_that_are_no_numbers_are_refused(value: float, where: str) -> None:
    frozen, images = Counting(), torch.rand(10, 3, 9, 9)
    if where == "weights":
        with torch.no_grad():
            next(frozen.parameters())[0, 0, 0, 0] = value
        with pytest.raises(RangeError, match=r"makes NaN or infinity of images \(1, 3, 9, 9\)"):
            features_of(training(12), frozen)
    else:
        images[5, 1, 2, 3] = value
    loader: DataLoader[tuple[Tensor, ...]]
    loader = DataLoader(TensorDataset(images, torch.arange(10)), batch_size=10)
    with pytest.raises(RangeError, match=r"makes NaN or infinity of images \(10, 3, 9, 9\)"):
        next(iter(features_of(loader, frozen)))


def test_bad_options_are_refused() -> None:
    loaders = Loaders(training(12))
    for limit in (-1, math.inf):
        with pytest.raises(OptionError, match=f"memory_limit_bytes is {limit}; allowed: 0 or more"):
            feature_loaders(Counting(), loaders, memory_limit_bytes=limit)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="memory_limit_bytes is '1'; allowed: 0 or more"):
        feature_loaders(Counting(), loaders, memory_limit_bytes="1")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="precision"):
        feature_loaders(Counting(), loaders, precision="float8")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="device"):
        feature_loaders(Counting(), loaders, device="gpu")


@pytest.mark.parametrize("first", ["features", "shares"])
@pytest.mark.parametrize("augmentation", [None, Augmentation(flip="random")])
def test_shares_of_features_are_those_of_the_images(
    augmentation: Augmentation | None, first: str
) -> None:
    frozen, whole = Counting(), training(11, batch_size=4, augmentation=augmentation)
    expected = [whole.shard(i, 3) for i in range(3)]
    if first == "shares":
        shares = [features_of(share, frozen) for share in expected]
    else:
        loader = features_of(whole, frozen)
        assert isinstance(loader, TensorFeatureLoader)
        shares = [loader.shard(i, 3) for i in range(3)]
    seen = []
    for share, images in zip(shares, expected, strict=True):
        batches = list(share)
        assert_same(batches, images, frozen)
        seen += [label for _, labels in batches for label in labels.tolist()]
    assert len(seen) == len(set(seen)) == 8


class Extra(nn.Linear):
    """A layer whose state is more than tensors."""

    def __init__(self, note: str) -> None:
        super().__init__(2, 3)
        self.note = note

    def get_extra_state(self) -> str:
        return self.note

    def set_extra_state(self, state: str) -> None:
        self.note = state


def test_fingerprint_of_a_state_is_of_all_that_is_in_it() -> None:
    def filled(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            nn.init.constant_(parameter, 0.0)
        return module

    different = [
        nn.Linear(2, 3),
        nn.Linear(2, 3, bias=False),
        nn.Linear(3, 2, bias=False),
        nn.Linear(2, 3, dtype=torch.float64),
        nn.Sequential(nn.Linear(2, 3)),
        Extra("one"),
        Extra("another"),
    ]
    found = [state_fingerprint(filled(module)) for module in different]
    assert len(set(found)) == len(found)
    assert {len(each) for each in found} == {16}
    changed = filled(nn.Linear(2, 3))
    assert state_fingerprint(changed) == found[0]
    with torch.no_grad():
        next(changed.parameters())[1, 1] = 1.0
    assert state_fingerprint(changed) != found[0]
