"""Augmentation of the user's own, and loaders made from a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cifarzoo import Augmentation, Recipe, TensorLoader, shapes_loaders
from cifarzoo.errors import InvalidTypeError, InvalidValueError

N = 20


def make(transform: Any, **options: Any) -> TensorLoader:  # noqa: ANN401
    """Return a loader of noise; the labels are the numbers of the images."""
    torch.manual_seed(0)
    images = torch.randint(256, (N, 3, 8, 8), dtype=torch.uint8)
    return TensorLoader(images, torch.arange(N), batch_size=6, transform=transform, **options)


def images_of(loader: TensorLoader) -> Tensor:
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    return images[labels.argsort()]


def test_function_of_a_batch_gets_the_augmented_uint8_images() -> None:
    def invert(batch: Tensor) -> Tensor:
        assert batch.dtype == torch.uint8
        return 255 - batch

    augmentation = Augmentation(flip="random", translate=2)
    plain = images_of(make(None, augmentation=augmentation))
    torch.testing.assert_close(images_of(make(invert, augmentation=augmentation)), 1 - plain)


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(0.5),
        v2.Compose([v2.Identity(), v2.RandomHorizontalFlip(0.5)]),
        torch.nn.Sequential(v2.Identity(), v2.RandomHorizontalFlip(0.5)),
    ],
    ids=["transform", "compose", "sequential"],
)
def test_torchvision_transforms_draw_for_each_image(transform: Callable[[Tensor], Tensor]) -> None:
    plain = images_of(make(None))
    found = images_of(make(transform))
    flipped = [
        torch.equal(a, functional.horizontal_flip(b)) for a, b in zip(found, plain, strict=True)
    ]
    kept = [torch.equal(a, b) for a, b in zip(found, plain, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 3 <= sum(flipped) <= N - 3


def test_floats_and_other_sizes_are_returned_as_they_are() -> None:
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Resize(12)])
    found = images_of(make(transform))
    assert found.shape == (N, 3, 12, 12)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < found.max() <= 1


def test_random_numbers_depend_on_seed_epoch_and_batch_alone() -> None:
    def noise(batch: Tensor) -> Tensor:
        return batch * (torch.rand(len(batch), 1, 1, 1) < 0.5)

    loader = make(noise, shuffle=True, seed=3)
    first, second = (list(loader) for _ in range(2))
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    other = make(noise, shuffle=True, seed=3)
    other.set_epoch(1)
    torch.rand(5)
    state = torch.get_rng_state()
    resumed = list(other.iter_from(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(resumed, second[2:], strict=True))


def test_other_views_of_the_images_are_not_transformed() -> None:
    loader = make(lambda batch: 255 - batch)
    assert torch.equal(images_of(loader.in_order()), images_of(make(None)))
    assert loader.fingerprint != make(None).fingerprint


@pytest.mark.parametrize(
    ("transform", "error"),
    [
        (lambda batch: batch[:2], InvalidValueError),
        (lambda batch: batch.numpy(), InvalidTypeError),
        (lambda batch: batch.int(), InvalidTypeError),
        (lambda batch: batch.float(), InvalidValueError),
        (lambda batch: batch / 255 - 0.5, InvalidValueError),
        (lambda batch: batch.filter(), InvalidValueError),
    ],
)
def test_results_that_are_no_images_are_refused(
    transform: Callable[[Tensor], Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="transform"):
        next(iter(make(transform)))


def test_torchvision_transform_as_augmentation_is_refused_with_advice() -> None:
    augmentation: Any = v2.RandomCrop(8)
    with pytest.raises(InvalidTypeError, match="as transform"):
        make(None, augmentation=augmentation)


def test_recipe_provides_what_is_not_passed() -> None:
    augmentation = Augmentation(flip="random")
    recipe = Recipe(batch_size=7, val_fraction=0.25, augmentation=augmentation)
    loaders = shapes_loaders(recipe=recipe, n_train=40, n_test=5)
    assert loaders.val is not None
    assert (loaders.train.batch_size, loaders.train.augmentation) == (7, augmentation)
    assert (loaders.train.n, loaders.val.n) == (30, 10)
    assert shapes_loaders(5, recipe=recipe, n_train=40, n_test=5).train.batch_size == 5
    assert shapes_loaders(n_train=100, n_test=5).train.batch_size == Recipe().batch_size
