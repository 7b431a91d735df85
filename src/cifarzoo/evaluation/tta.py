"""Test-time augmentation: the same image seen several ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from torch import Tensor, nn

from cifarzoo.errors import ShapeError, one_of
from cifarzoo.spec import TtaName

__all__ = ["views"]


def views(images: Tensor, tta: TtaName) -> Iterator[tuple[float, Tensor]]:
    """Give the views of a batch with their weights, which add up to 1.

    Args:
        images: (N,C,H,W); H and W are 2 or more, but for "none".
        tta: "none" gives the images, "flip" also their mirror images, "flip_translate" these two
            in place (weight 1/4 each) and shifted by one pixel up-left and down-right (1/8 each),
            as arXiv 2404.00498 does.

    Raises:
        OptionError: another name.
        ShapeError: there is nothing to flip and shift.
    """
    if tta not in get_args(TtaName):
        raise one_of("tta", tta, get_args(TtaName))
    if tta == "none":
        yield 1.0, images
        return
    if images.ndim != 4 or min(images.shape[-2:]) < 2:
        raise ShapeError(
            f"images have shape {tuple(images.shape)}; test-time augmentation needs (N,C,H,W) "
            "with H and W of 2 or more"
        )
    shifts = ((1, 1),) if tta == "flip" else ((1, 1), (0, 0), (2, 2))
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images.float(), (1, 1, 1, 1), mode="reflect").to(images.dtype)
    for top, left in shifts:
        shifted = padded[..., top : top + height, left : left + width]
        weight = 0.5 if tta == "flip" else 0.25 if (top, left) == (1, 1) else 0.125
        yield weight, shifted
        yield weight, shifted.flip(-1)
