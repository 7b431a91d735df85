"""Tests of the data sets' loaders and of what counts as a loader."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo.data.cifar10 import CLASSES
from cifarzoo.data.images import ImageData
from cifarzoo.data.loaders import (
    BatchLoader,
    HasEpochs,
    Loaders,
    Resumable,
    TensorLoader,
    TensorLoaders,
    _split,
    cifar10_loaders,
    shapes_loaders,
)
from cifarzoo.data.shapes import SHAPE_CLASSES
from cifarzoo.errors import DataNotFoundError, OptionError
from cifarzoo.spec import Augmentation


def tensor_loader(loader: BatchLoader | None) -> TensorLoader:
    assert isinstance(loader, TensorLoader)
    return loader


def test_a_torch_data_loader_fits() -> None:
    dataset = TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    theirs: DataLoader[tuple[Tensor, ...]] = DataLoader(dataset, batch_size=2)
    loaders = Loaders(theirs, theirs)  # mypy checks the fit
    assert [len(labels) for _, labels in loaders.train] == [2, 2]
    assert len(loaders.train) == 2
    assert not isinstance(theirs, HasEpochs)


def test_ours_has_epochs_and_resumes() -> None:
    ours = shapes_loaders(n_train=100, n_test=10).train
    assert isinstance(ours, HasEpochs)
    assert isinstance(ours, Resumable)


def test_loaders_are_frozen_and_need_only_train() -> None:
    train = shapes_loaders(n_train=100, n_test=10).train
    loaders = Loaders(train)
    assert loaders.val is None
    assert loaders.test is None
    with pytest.raises(FrozenInstanceError):
        loaders.train = train  # type: ignore[misc]


@given(n=st.integers(1, 300), fraction=st.floats(0, 0.99))
def test_split_covers_everything_once(n: int, fraction: float) -> None:
    train, val = _split(n, fraction)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(n))
    assert len(val) == round(fraction * n)


def test_split_is_the_course_s() -> None:
    _, val = _split(50_000, 0.1)
    chosen = np.random.RandomState(0).choice(50_000, size=5_000, replace=False)
    assert val.tolist() == sorted(chosen.tolist())


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(OptionError, match="val_fraction"):
        shapes_loaders(n_train=20, n_test=10, val_fraction=fraction)


def test_shapes_loaders() -> None:
    loaders = shapes_loaders(32, n_train=1000, n_test=300, augmentation=Augmentation(cutout=4))
    train, val, test = map(tensor_loader, (loaders.train, loaders.val, loaders.test))
    assert (train.n, val.n, test.n) == (900, 100, 300)
    assert (len(train), len(val), len(test)) == (28, 1, 2)
    assert train.augmentation == Augmentation(cutout=4)
    assert val.augmentation is None
    assert train.classes == test.classes == SHAPE_CLASSES
    first, second = (torch.cat([labels for _, labels in train]) for _ in range(2))
    assert not torch.equal(first, second)


def test_no_fraction_gives_no_validation() -> None:
    loaders = shapes_loaders(n_train=100, n_test=10, val_fraction=0)
    assert loaders.val is None
    assert tensor_loader(loaders.train).n == 100


def test_seed_changes_the_order_and_not_the_data() -> None:
    one, other = (
        tensor_loader(shapes_loaders(n_train=200, n_test=10, seed=seed).train) for seed in (0, 1)
    )
    assert torch.equal(one.images, other.images)
    assert not torch.equal(next(iter(one))[1], next(iter(other))[1])


def test_missing_data_is_an_error_and_never_shapes(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="Ways out"):
        cifar10_loaders(root=tmp_path, download=False)


@pytest.mark.data
def test_cifar10_loaders(real_root: Path) -> None:
    loaders = cifar10_loaders(root=real_root, download=False)
    train, val, test = map(tensor_loader, (loaders.train, loaders.val, loaders.test))
    assert (train.n, val.n, test.n) == (45_000, 5_000, 10_000)
    assert (len(train), len(val), len(test)) == (703, 20, 40)
    assert train.classes == CLASSES
    assert not _rows(train) & _rows(val)
    assert len(_rows(train) | _rows(val)) == 50_000


def _rows(loader: TensorLoader) -> set[bytes]:
    """Give every image's content; CIFAR-10's training images all differ."""
    return {row.tobytes() for row in loader.images.permute(0, 2, 3, 1).numpy()}


@pytest.mark.parametrize(
    ("loader", "kind"),
    [
        ((torch.rand(2, 3, 8, 8), torch.arange(2)), "a tuple"),
        (torch.rand(2, 3, 8, 8), "a Tensor"),
        (iter([]), "a list_iterator"),
        (None, r"None \(NoneType\)"),
        (3, r"3 \(int\)"),
    ],
)
def test_what_is_no_loader_is_refused(loader: Any, kind: str) -> None:  # noqa: ANN401
    with pytest.raises(OptionError, match=f"train is {kind}; needed is a loader of"):
        Loaders(loader)
    if loader is not None:
        with pytest.raises(OptionError, match=f"val is {kind}; needed is a loader of"):
            Loaders([], loader)


def test_loaders_of_tensors_take_nothing_else() -> None:
    loaders = shapes_loaders(100, n_train=300, n_test=100)
    assert isinstance(loaders, TensorLoaders)
    assert loaders.test.images.shape == (100, 3, 32, 32)
    batches = [(torch.zeros(2, 3, 32, 32), torch.zeros(2))]
    for wrong in ({"train": batches}, {"val": batches}, {"test": None}):
        with pytest.raises(OptionError, match=rf"{next(iter(wrong))} is .*a TensorLoader"):
            replace(loaders, **wrong)


def test_cifar10_loaders_pass_on_what_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(root: object, *, download: bool) -> ImageData:
        asked.append((root, download))
        images, labels = torch.zeros(90, 3, 32, 32, dtype=torch.uint8), torch.arange(90) % 10
        return ImageData(images, labels, images, labels)

    monkeypatch.setattr("cifarzoo.data.loaders.load_cifar10", load)
    augmentation = Augmentation(flip="random")
    made = cifar10_loaders(
        4, root="/here", val_fraction=0.2, augmentation=augmentation, seed=7, download=False
    )
    assert asked == [("/here", False)]
    assert (made.train.augmentation, made.train.seed, made.train.batch_size) == (augmentation, 7, 4)
    assert made.val is not None
    assert made.val.augmentation is None
    assert cifar10_loaders().train.seed == 0
    assert asked[1:] == [(None, True)]
