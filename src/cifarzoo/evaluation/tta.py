"""Test-time augmentation (TTA): predictions averaged over several views of each image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError

__all__ = ["views"]


def views(images: Tensor, tta: Literal["flip", "flip_translate"]) -> Iterator[tuple[float, Tensor]]:
    """Yield the views of a batch and their weights, which sum to 1.

    Args:
        images: (N,C,H,W) with H and W of at least 2.
        tta: "flip" yields the images and their mirror images. "flip_translate" yields both in place
            (weight 1/4 each) and shifted by one pixel down-right and up-left (1/8 each), as in
            arXiv 2404.00498.

    Raises:
        InvalidValueError: the images cannot be flipped and shifted.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < 2:
        raise InvalidValueError(
            f"images have shape {tuple(images.shape)}: test-time augmentation expects (N,C,H,W) "
            "with H and W of at least 2"
        )
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images.float(), (1, 1, 1, 1), mode="reflect").to(images.dtype)
    offsets = ((1, 0.5),) if tta == "flip" else ((1, 0.25), (0, 0.125), (2, 0.125))
    for offset, weight in offsets:
        view = padded[..., offset : offset + height, offset : offset + width]
        yield weight, view
        yield weight, view.flip(-1)
