"""Images before and after augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cifarzoo.data.loader import TensorLoader
from cifarzoo.recipe import Augmentation
from cifarzoo.validation import validate
from cifarzoo.viz._figure import new_tiles, picture, show_pixels
from cifarzoo.viz._inputs import check_int, to_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 12
TILE = 0.95  # inches
FLIPS = {"random": "random horizontal flips", "alternating": "flipped every other epoch"}


@picture
def plot_augmentation(
    images: Tensor, augmentation: Augmentation, *, epochs: int = 7, title: str | None = None
) -> Figure:
    """Draw images, and next to each its augmented versions, epoch by epoch.

    The versions are those of a `TensorLoader` of these images, which a network would be trained on.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        augmentation: the settings, such as `model_card(name).recipe.augmentation`.
        epochs: number of versions, 1 to 12.
        title: figure title; by default the settings of the augmentation.

    Returns:
        The figure: a row per image, which begins with the image itself.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.
    """
    validate("augmentation", augmentation, Augmentation)
    check_int("epochs", epochs, 1, 12)
    pixels = to_rgb(images)[:MAX_IMAGES]
    count = len(pixels)
    stored = torch.from_numpy(pixels).mul(255).round().to(torch.uint8).permute(0, 3, 1, 2)
    labels = torch.zeros(count, dtype=torch.int64)
    loader = TensorLoader(stored, labels, batch_size=count, augmentation=augmentation)
    columns = [("image", pixels)]
    columns += [(f"epoch {epoch + 1}", to_rgb(next(iter(loader))[0])) for epoch in range(epochs)]
    n, size, default = len(columns), (TILE, TILE + 0.2 / count), _describe(augmentation)
    figure, axes = new_tiles(n * count, columns=n, size=size, title=title, default=default)
    for i, axis in enumerate(axes):
        row, column = divmod(i, n)
        heading, versions = columns[column]
        show_pixels(axis, versions[row], above="" if row else heading)
    return figure


def _describe(a: Augmentation) -> str:
    parts = {
        f"RandAugment (operations: {a.rand_augment}, magnitude: {a.magnitude})": a.rand_augment,
        "TrivialAugment": a.trivial_augment,
        f"rotated by up to {a.rotation:g}° ({a.padding} padding)": a.rotation,
        "changed sharpness": a.sharpness,
        "colour jitter": a.brightness or a.contrast or a.saturation or a.hue,
        FLIPS.get(a.flip, ""): a.flip in FLIPS,
        f"shifted by up to {a.translate} pixels ({a.padding} padding)": a.translate,
        f"cutout of {a.cutout}×{a.cutout} pixels": a.cutout,
        f"rectangles erased in {a.erase:.3g} of the images": a.erase,
    }
    return "; ".join(text for text, enabled in parts.items() if enabled) or "no augmentation"
