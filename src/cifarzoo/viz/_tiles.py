"""One filter or one activation map on one axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifarzoo.errors import RangeError
from cifarzoo.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Sign", "draw_filter", "draw_map", "filter_picture", "scale_note", "sign_of"]

Sign: TypeAlias = Literal["both", "positive"]


def filter_picture(kernel: Tensor) -> NDArray[np.float32]:
    """Turn one filter into a picture, scaled by its own largest weight.

    Args:
        kernel: (C,H,W), the weights of one filter.

    Returns:
        With three channels RGB, (H,W,3) in [0, 1], where a weight of zero is 0.5. With any other
        number a montage of the channels, (rows*(H+1)-1, columns*(W+1)-1) in [-1, 1], nearly
        square, with NaN between them.

    Raises:
        RangeError: a weight is NaN or infinite.
    """
    kernel = kernel.detach().float().cpu()
    if not kernel.isfinite().all():
        raise RangeError("a filter holds NaN or infinity; look at the model's training")
    scaled = kernel / kernel.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    if len(scaled) == 3:
        return np.asarray(((scaled + 1) / 2).permute(1, 2, 0).numpy(), dtype=np.float32)
    return _montage(scaled)


def _montage(channels: Tensor) -> NDArray[np.float32]:
    count, height, width = channels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1)), np.nan, dtype=np.float32)
    for i, channel in enumerate(channels.numpy()):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = channel
    return sheet[:-1, :-1]


def draw_filter(axis: Axes, kernel: Tensor, *, title: str) -> None:
    """Draw one filter, (C,H,W): in colour if it has three channels, else channel by channel."""
    _style.undress(axis)
    picture = filter_picture(kernel)
    axis.imshow(picture, cmap=_style.DIVERGING, vmin=-1, vmax=1, interpolation=_style.PIXELS)
    axis.set_title(title, fontsize=_style.SMALL, pad=3)


def scale_note(conv: nn.Conv2d) -> str:
    """Say how the colours of a convolution's filters are to be read."""
    if conv.weight.shape[1] == 3:
        return "mid-grey: 0, each scaled to its largest weight"
    return "red: positive, white: 0, blue: negative, each scaled to its largest weight"


def sign_of(maps: Tensor) -> Sign:
    """Say which colours suit all of several maps, so that one figure has one kind."""
    return "both" if bool((maps < 0).any()) else "positive"


def draw_map(axis: Axes, values: Tensor, *, title: str, sign: Sign) -> None:
    """Draw one activation map, (H,W), on its own scale, with its range below.

    Args:
        axis: is drawn on.
        values: the map, (H,W).
        title: above it.
        sign: "both" takes colours that meet at zero, "positive" a single ramp from zero.
    """
    _style.undress(axis)
    low, high = float(values.min()), float(values.max())
    if sign == "both":
        top = max(-low, high) or 1
        image = axis.imshow(values.numpy(), cmap=_style.DIVERGING, vmin=-top, vmax=top)
    else:
        image = axis.imshow(values.numpy(), cmap=_style.SEQUENTIAL, vmin=0, vmax=high or 1)
    image.set_interpolation(_style.PIXELS)
    axis.set_title(title, fontsize=_style.SMALL, pad=3)
    extent = f"{low:.2g} to {high:.2g}".replace("-", "−")
    axis.set_xlabel(extent, fontsize=_style.SMALL, labelpad=2)
