from __future__ import annotations

import pytest
import torch

from cifarzoo import EmptyLoaderError, OptionError, Recipe, TensorLoader, shapes_loaders
from cifarzoo.cli.loading import class_names, load

RECIPE = Recipe(batch_size=20)


def sizes(data: str, limit: int) -> tuple[int, ...]:
    loaders = load(
        data,  # type: ignore[arg-type]
        RECIPE,
        root=None,
        seed=0,
        limit=limit,
        download=False,
        device="cpu",
    )
    return tuple(
        each.n
        for each in (loaders.train, loaders.val, loaders.test)
        if isinstance(each, TensorLoader)
    )


def test_limit_counts_images_before_the_split() -> None:
    assert sizes("shapes", 100) == (90, 10, 100)


def test_limit_means_the_same_for_both_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shapes_loaders(20, n_train=500, n_test=500)
    monkeypatch.setattr("cifarzoo.run.load_data", lambda *args, **options: whole)
    assert sizes("cifar10", 100) == (90, 10, 100)
    assert sizes("cifar10", 10_000) == (450, 50, 500)


def test_limit_that_leaves_no_batch_is_refused() -> None:
    with pytest.raises(EmptyLoaderError, match="batch_size is 20"):
        sizes("shapes", 15)


def test_first_images_keep_order_and_seed() -> None:
    whole = shapes_loaders(20, n_train=200, n_test=10, val_fraction=0).train
    assert isinstance(whole, TensorLoader)
    first = whole.first(60)
    assert (first.n, len(first), first.batch_size) == (60, 3, 20)
    assert torch.equal(first.images, whole.images[:60])
    assert whole.n == 200
    assert sorted(torch.cat([labels for _, labels in first]).tolist()) == sorted(
        whole.labels[:60].tolist()
    )
    with pytest.raises(OptionError, match="n is 0"):
        whole.first(0)
    with pytest.raises(EmptyLoaderError, match="19 images"):
        whole.first(19)


def test_classes_have_names() -> None:
    assert class_names("cifar10")[3] == "cat"
    assert "star" in class_names("shapes")
