"""An image, a filter or an activation map on one axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError
from cifarzoo.viz._figure import show_pixels
from cifarzoo.viz._inputs import to_rgb
from cifarzoo.viz.theme import DIVERGING, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_image(axis: Axes, image: Tensor) -> None:
    """Draw an input image (3,H,W) above its size."""
    height, width = image.shape[1:]
    show_pixels(axis, to_rgb(image[None])[0], above="image", below=f"{height}×{width} pixels")


def draw_filter(axis: Axes, kernel: Tensor, *, title: str) -> None:
    """Draw a filter (C,H,W), in colour or channel by channel."""
    show_pixels(axis, filter_pixels(kernel), above=title, cmap=DIVERGING, vmin=-1, vmax=1)


def draw_map(axis: Axes, values: Tensor, *, title: str, signed: bool) -> None:
    """Draw an activation map (H,W) on its own scale, above its range.

    Colours meet at zero if signed, otherwise they begin there.
    """
    low, high = float(values.min()), float(values.max())
    top = (max(-low, high) if signed else high) or 1.0
    cmap, bottom = (DIVERGING, -top) if signed else (SEQUENTIAL, 0)
    text = f"{low:.2g} to {high:.2g}".replace("-", "−")
    show_pixels(axis, values.numpy(), above=title, below=text, cmap=cmap, vmin=bottom, vmax=top)


def scale_note(conv: nn.Conv2d) -> str:
    """Return what the colours of a convolution's filters mean."""
    if conv.weight.shape[1] == 3:
        return "grey: zero; each filter scaled to its largest weight"
    return "red: positive, white: zero, blue: negative; each filter scaled to its largest weight"


def filter_pixels(kernel: Tensor) -> NDArray[np.float32]:
    """Return a filter (C,H,W) as pixels, scaled by its largest absolute weight.

    Returns:
        For three channels RGB (H,W,3) in [0, 1], where 0.5 is a weight of zero. Otherwise a nearly
        square montage of the channels in [-1, 1], with NaN between them.
    """
    kernel = kernel.detach().float().cpu()
    if not kernel.isfinite().all():
        raise InvalidValueError("a filter has weights that are not finite")
    scaled = kernel / kernel.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    if len(scaled) == 3:
        return np.asarray(((scaled + 1) / 2).permute(1, 2, 0).numpy(), dtype=np.float32)
    count, height, width = scaled.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    montage = np.full((rows, height + 1, columns, width + 1), np.nan, dtype=np.float32)
    for i, channel in enumerate(scaled.numpy()):
        montage[i // columns, :-1, i % columns, :-1] = channel
    return montage.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
