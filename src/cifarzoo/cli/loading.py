"""The data that a command asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifarzoo.cli.options import DataName

if TYPE_CHECKING:
    from cifarzoo.data.loaders import Loaders
    from cifarzoo.spec import Recipe

__all__ = ["class_names", "load"]


def class_names(data: DataName) -> tuple[str, ...]:
    """Name the classes of a data set."""
    from cifarzoo.data import CLASSES, SHAPE_CLASSES

    return SHAPE_CLASSES if data == "shapes" else CLASSES


def load(
    data: DataName,
    recipe: Recipe,
    *,
    root: Path | None,
    seed: int,
    limit: int | None,
    download: bool,
    device: str,
) -> Loaders:
    """Load a data set, or its first images.

    Args:
        data: its name.
        recipe: says how it is batched, split and augmented.
        root: where CIFAR-10 is; None looks in `CIFARZOO_DATA`, else in the user's cache.
        seed: of order and augmentation.
        limit: how many training images (before the split) and test images are used at most;
            None takes all.
        download: whether to fetch CIFAR-10 where it is not found.
        device: where the images are kept.
    """
    from cifarzoo.data.loaders import Loaders, first_images, shapes_loaders
    from cifarzoo.run import load_data

    if limit is None:
        return load_data(data, recipe, root=root, seed=seed, download=download, device=device)
    if data == "shapes" and root is None:  # drawn one by one, so the others need not be
        return shapes_loaders(
            recipe.batch_size,
            n_train=min(limit, 20_000),
            n_test=min(limit, 4_000),
            val_fraction=recipe.val_fraction,
            augmentation=recipe.augmentation,
            seed=seed,
            device=device,
        )
    whole = load_data(data, recipe, root=root, seed=seed, download=download, device=device)
    held_out = round(limit * recipe.val_fraction)
    return Loaders(
        first_images(whole.train, limit - held_out),
        None if whole.val is None else first_images(whole.val, max(1, held_out)),
        None if whole.test is None else first_images(whole.test, limit),
    )
