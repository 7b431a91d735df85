"""What augmentation makes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cifarzoo.data.loaders import TensorLoader
from cifarzoo.errors import ShapeError, wrong_kind
from cifarzoo.spec import Augmentation, require_whole
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import require_tensor, rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_augmentation"]

MOST_IMAGES = 12
MOST_EPOCHS = 12
TILE = 0.95  # inches
FLIPS = {"random": "mirrored by chance", "alternating": "mirrored every other epoch"}


def plot_augmentation(
    images: Tensor,
    augmentation: Augmentation,
    *,
    epochs: int = 7,
    seed: int = 0,
    title: str | None = None,
) -> Figure:
    """Draw images, and beside each what a network is shown of it in the first epochs.

    The versions come from a `TensorLoader` of these images.

    Args:
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        augmentation: what happens to them, such as `model_card(name).recipe.augmentation`.
        epochs: how many versions of each, 1 to 12.
        seed: of the augmentation, 0 or more.
        title: above the figure; None writes the augmentation's settings.

    Returns:
        The figure: a row per image, whose first axis holds the image as it is.

    Raises:
        OptionError: images are not a tensor, augmentation is not an Augmentation or does not fit
            the images' size, or a number is not allowed.
        ShapeError: images are not (N,3,H,W), or N is 0.
        RangeError: images are neither uint8 nor float in [0, 1].
    """
    if not isinstance(augmentation, Augmentation):
        raise wrong_kind("augmentation", augmentation, 'Augmentation(...), such as flip="random"')
    require_whole("epochs", epochs, 1, MOST_EPOCHS, f"1 to {MOST_EPOCHS}")
    require_tensor("images", images)
    if images.ndim != 4:
        raise ShapeError(f"images have shape {tuple(images.shape)}; needed is (N, 3, H, W)")
    shown = rgb(images[:MOST_IMAGES])
    pixels = torch.from_numpy(shown).mul(255).round().to(torch.uint8).permute(0, 3, 1, 2)
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    loader = TensorLoader(
        pixels, labels, batch_size=len(pixels), augmentation=augmentation, seed=seed
    )
    columns = [("image", shown)]
    columns += [(f"epoch {epoch + 1}", rgb(next(iter(loader))[0])) for epoch in range(epochs)]
    figure = _style.new_figure(
        TILE * len(columns),
        TILE * len(pixels) + 0.6,
        title=_settings(augmentation) if title is None else title,
    )
    axes = _style.tile_axes(figure, len(columns) * len(pixels), columns=len(columns))
    for i, axis in enumerate(axes):
        row, column = divmod(i, len(columns))
        heading, pictures = columns[column]
        axis.imshow(pictures[row], interpolation=_style.PIXELS)
        if not row:
            axis.set_title(heading, fontsize=_style.SMALL, pad=3)
    return figure


def _settings(augmentation: Augmentation) -> str:
    """Write an augmentation in words."""
    pixels, padding = augmentation.translate, augmentation.padding
    parts = [FLIPS[augmentation.flip]] if augmentation.flip in FLIPS else []
    if augmentation.rand_augment:
        many = augmentation.rand_augment
        operations = f"{many} operation{'' if many == 1 else 's'}"
        parts.insert(0, f"RandAugment of {operations}, magnitude {augmentation.magnitude}")
    if pixels:
        parts.append(f"shifted by up to {pixels} pixels ({padding} padding)")
    if augmentation.cutout:
        parts.append(f"a square of {augmentation.cutout} pixels cut out")
    return "; ".join(parts) or "no augmentation"
