"""Tests of loaders of features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from cifarzoo.data import features
from cifarzoo.data.features import feature_loaders
from cifarzoo.data.loader import Batch, Loaders, Resumable, TensorLoader, start_epoch
from cifarzoo.recipe import Augmentation

ROW_BYTES = 2 * 3 * 3 * 4  # size of one image's features in float32
FLIP = Augmentation(flip="random")


class Counting(nn.Module):
    """A frozen network that counts the images it sees."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3, stride=3), nn.BatchNorm2d(2))
        self.seen = 0

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        result: Tensor = self.layers(images)
        return result


def make(
    n: int = 70, augmentation: Augmentation | None = None, *, train: bool = True
) -> TensorLoader:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 3, 9, 9), dtype=torch.uint8, generator=generator)
    options: dict[str, Any] = {"shuffle": train, "drop_last": train, "augmentation": augmentation}
    return TensorLoader(images, torch.arange(n), batch_size=4, **options)


def features_of(loader: Any, frozen: nn.Module, precision: Any = "float32") -> Any:  # noqa: ANN401
    loaders = Loaders(loader)
    return feature_loaders(frozen, loaders, device="cpu", precision=precision, progress=False).train


def assert_features(found: Iterable[Batch], images: Iterable[Batch], frozen: nn.Module) -> None:
    for (rows, labels), (batch, expected) in zip(found, images, strict=True):
        assert torch.equal(labels, expected)
        assert rows.dtype == torch.float32
        assert not rows.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(rows, frozen.eval()(batch), check_stride=False)


@settings(max_examples=25)
@given(
    n=st.integers(4, 70),
    is_kept=st.booleans(),
    flatten=st.booleans(),
    augmentation=st.sampled_from([None, FLIP]),
    batch=st.integers(0, 1),
)
def test_features_have_the_order_and_labels_of_the_images(
    n: int, is_kept: bool, flatten: bool, augmentation: Augmentation | None, batch: int
) -> None:
    frozen = nn.Sequential(Counting(), nn.Flatten()) if flatten else Counting()
    loader = make(n, augmentation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "MEMORY_LIMIT_BYTES", n * ROW_BYTES - (not is_kept))
        found = features_of(loader, frozen)
    assert len(found) == len(loader)
    for _ in range(2):  # two epochs
        assert_features(found, loader, frozen)
    for each in (found, loader):
        each.set_epoch(5)
    assert_features(found.iter_from(batch), loader.iter_from(batch), frozen)
    assert_features(found.in_order(10), loader.in_order(10), frozen)
    for index in range(3):
        assert_features(found.shard(index, 3), loader.shard(index, 3), frozen)
        assert_features(features_of(loader.shard(index, 3), frozen), loader.shard(index, 3), frozen)


@pytest.mark.parametrize("augmentation", [None, FLIP])
def test_features_are_computed_once_unless_augmented(augmentation: Augmentation | None) -> None:
    frozen, loader = Counting(), make(72, augmentation)
    found = features_of(loader, frozen)
    seen = frozen.seen
    for epoch in range(1, 4):
        list(found)
        assert frozen.seen - seen == (0 if augmentation is None else 72 * epoch)
    assert loader.epoch == 0  # the original loader was not iterated over


def test_all_features_of_a_loader_are_kept_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MEMORY_LIMIT_BYTES", 45 * ROW_BYTES)
    frozen, images = Counting(), Loaders(make(40), make(30, train=False), make(15, train=False))
    loaders = feature_loaders(frozen, images, device="cpu", precision="float32", progress=False)
    computed = []
    for loader in (loaders.val, loaders.train, loaders.test):
        assert loader is not None
        before = frozen.seen
        list(loader)
        computed.append(frozen.seen - before)
    assert computed == [0, 40, 0]  # validation first


def test_features_are_kept_in_the_dtype_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MEMORY_LIMIT_BYTES", 40 * ROW_BYTES // 2)
    frozen = nn.Conv2d(3, 2, 3, stride=3)
    found = features_of(make(40), frozen, "bfloat16")
    nn.init.zeros_(frozen.weight)
    assert all(rows.dtype == torch.float32 and rows.any() for rows, _ in found)  # all were kept


def test_features_of_other_loaders_are_computed_per_batch() -> None:
    frozen = Counting()
    data = TensorDataset(torch.rand(10, 3, 9, 9), torch.arange(10))
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(data, batch_size=4)
    found = features_of(loader, frozen)
    assert len(found) == 3
    assert_features(found, loader, frozen)
    assert not isinstance(found, Resumable)  # `fit` then repeats the DataLoader's shuffling


def test_the_epoch_is_passed_on_to_other_loaders() -> None:
    class Epochs(list[Batch]):
        def set_epoch(self, epoch: int) -> None:
            self[:] = [(torch.rand(1, 3, 9, 9), torch.tensor([epoch]))]

    found = features_of(Epochs(), Counting())
    start_epoch(found, 4, seed=0)
    assert [labels.item() for _, labels in found] == [4]


def test_the_fingerprint_covers_images_network_and_precision() -> None:
    def fingerprint(n: int = 12, seed: int = 0, precision: str = "float32") -> str:
        return str(features_of(make(n), Counting(seed), precision).fingerprint)

    assert fingerprint() == fingerprint()
    others = {fingerprint(n=11), fingerprint(seed=1), fingerprint(precision="bfloat16")}
    assert len({fingerprint(), *others}) == 4


def test_the_network_is_frozen_and_gradients_end_at_the_features() -> None:
    frozen = Counting().train()
    statistics = frozen.state_dict()["layers.1.running_mean"].clone()
    head = nn.Sequential(nn.Flatten(), nn.Linear(18, 2))
    for augmentation in (None, FLIP):
        rows, _ = next(iter(features_of(make(12, augmentation), frozen)))
        torch.autograd.backward(head(rows).sum())
    assert not any(module.training for module in frozen.modules())
    assert torch.equal(frozen.state_dict()["layers.1.running_mean"], statistics)
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("progress", [True, False])
def test_the_progress_bar_is_optional(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    feature_loaders(Counting(), Loaders(make()), device="cpu", progress=progress)
    assert ("frozen layers" in capsys.readouterr().err) == progress
