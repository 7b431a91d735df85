"""Augmentation of whole batches: uint8 in, uint8 out.

What happens to each image is drawn for a whole epoch at once, from the seed and the epoch alone.
So the same epoch can be had again, from any batch on, and the global random state is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from cifarzoo.spec import Augmentation, PaddingName

__all__ = ["AugmentParams", "apply", "draw", "generator_for"]

StreamName: TypeAlias = Literal["order", "flip", "translate", "cutout", "policy"]

POLICIES = 16  # of RandAugment in one epoch; images with the same one are changed together


def generator_for(stream: StreamName, *, seed: int, epoch: int) -> torch.Generator:
    """Give the random generator of one purpose in one epoch.

    Every purpose has its own, so turning cutout on leaves the flips as they were.

    Args:
        stream: what the numbers are for.
        seed: of the run, 0 or more.
        epoch: 0 or more.

    Returns:
        A fresh generator on the CPU.
    """
    key = (get_args(StreamName).index(stream), epoch)
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentParams:
    """What happens to each of n images; None where the augmentation is off.

    Attributes:
        flip: bool (n,), whether an image is mirrored.
        shift: int64 (n,2), pixels down and to the right.
        centre: int64 (n,2), row and column of the cutout's centre.
        policy: int64 (n,), the seed of what RandAugment does.
    """

    flip: Tensor | None = None
    shift: Tensor | None = None
    centre: Tensor | None = None
    policy: Tensor | None = None

    def take(self, indices: Tensor) -> AugmentParams:
        """Give the parameters of the images at `indices`, int64 (m,)."""
        return self._each(lambda values: values.index_select(0, indices))

    def to(self, device: torch.device) -> AugmentParams:
        """Give the same parameters on `device`."""
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> AugmentParams:
        changed = {
            field.name: None if values is None else change(values)
            for field in fields(self)
            for values in [getattr(self, field.name)]
        }
        return AugmentParams(**changed)


def draw(
    augmentation: Augmentation, n: int, *, size: tuple[int, int] = (32, 32), seed: int, epoch: int
) -> AugmentParams:
    """Draw what happens to each of n images in one epoch.

    Args:
        augmentation: what is allowed to happen.
        n: number of images in the epoch.
        size: height and width of the images in pixels.
        seed: of the run, 0 or more.
        epoch: 0 or more.

    Returns:
        The parameters, on the CPU.
    """
    return AugmentParams(
        flip=_draw_flip(augmentation, n, seed=seed, epoch=epoch),
        shift=_draw_shift(augmentation, n, seed=seed, epoch=epoch),
        centre=_draw_centre(augmentation, n, size, seed=seed, epoch=epoch),
        policy=_draw_policy(augmentation, n, seed=seed, epoch=epoch),
    )


def _draw_flip(augmentation: Augmentation, n: int, *, seed: int, epoch: int) -> Tensor | None:
    if augmentation.flip == "none":
        return None
    # Alternating: one coin per image for the whole run, and its other side in every odd epoch, so
    # that each pair of epochs shows both versions of every image.
    alternating = augmentation.flip == "alternating"
    generator = generator_for("flip", seed=seed, epoch=0 if alternating else epoch)
    coin = torch.rand(n, generator=generator) < 0.5
    return ~coin if alternating and epoch % 2 else coin


def _draw_shift(augmentation: Augmentation, n: int, *, seed: int, epoch: int) -> Tensor | None:
    if not augmentation.translate:
        return None
    generator = generator_for("translate", seed=seed, epoch=epoch)
    pixels = augmentation.translate
    return torch.randint(-pixels, pixels + 1, (n, 2), generator=generator)


def _draw_centre(
    augmentation: Augmentation, n: int, size: tuple[int, int], *, seed: int, epoch: int
) -> Tensor | None:
    if not augmentation.cutout:
        return None
    generator = generator_for("cutout", seed=seed, epoch=epoch)
    return torch.stack([torch.randint(side, (n,), generator=generator) for side in size], dim=1)


def _draw_policy(augmentation: Augmentation, n: int, *, seed: int, epoch: int) -> Tensor | None:
    if not augmentation.rand_augment:
        return None
    generator = generator_for("policy", seed=seed, epoch=epoch)
    seeds = torch.randint(2**62, (POLICIES,), generator=generator)
    return seeds[torch.randint(POLICIES, (n,), generator=generator)]


def apply(
    images: Tensor, params: AugmentParams, augmentation: Augmentation, *, fill: Tensor
) -> Tensor:
    """Apply RandAugment's operations, then mirror, then shift, then cut out.

    Args:
        images: uint8 (N,3,H,W), channels_last; not changed.
        params: of these N images, on their device.
        augmentation: what `params` was drawn for.
        fill: uint8 (3,), the colour of the cutout square.

    Returns:
        uint8 (N,3,H,W), channels_last.
    """
    if params.policy is not None:
        images = _rand_augment(images, params.policy, augmentation)
    pixels = images.permute(0, 2, 3, 1).contiguous()  # (N,H,W,3): a copy only where it has to be
    if params.flip is not None:
        pixels = _mirror(pixels, params.flip)
    if params.shift is not None:
        pixels = _translate(pixels, params.shift, augmentation.translate, augmentation.padding)
    if params.centre is not None:
        pixels = _cut_out(pixels, params.centre, augmentation.cutout, fill)
    return pixels.permute(0, 3, 1, 2)


def _rand_augment(images: Tensor, policy: Tensor, augmentation: Augmentation) -> Tensor:
    """Change the images of each policy together, as torchvision's own class draws it."""
    from torchvision.transforms import v2

    transform = v2.RandAugment(augmentation.rand_augment, augmentation.magnitude)
    result = torch.empty_like(images)
    for seed in sorted(set(policy.tolist())):
        chosen = policy == seed
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)  # a GPU's generator stays as it is
            result[chosen] = transform(images[chosen])
    return result


def _words(rows: Tensor) -> Tensor:
    """View rows of bytes as rows of int64 where they come out even; eight times less to do."""
    return rows.view(torch.int64) if rows.shape[-1] % 8 == 0 else rows


def _mirror(pixels: Tensor, flip: Tensor) -> Tensor:
    as_is, mirrored = (_words(side.flatten(1)) for side in (pixels, pixels.flip(2)))
    return torch.where(flip[:, None], mirrored, as_is).view(torch.uint8).view_as(pixels)


def _translate(pixels: Tensor, shift: Tensor, limit: int, padding: PaddingName) -> Tensor:
    """Pad the batch once, then take all rows of all windows out of it in one gather.

    A row of a window is W*3 bytes in one piece, which starts at any pixel of the padded batch.
    """
    n, height, width, channels = pixels.shape
    padded = _pad(pixels, limit, padding)
    row_bytes = width * channels
    starts = (padded.numel() - row_bytes) // channels + 1
    rows = padded.as_strided((starts, row_bytes), (channels, 1))
    corner = limit - shift  # content moves down by what the window moves up
    image = torch.arange(n, device=pixels.device)
    top_left = (image * padded.shape[1] + corner[:, 0]) * padded.shape[2] + corner[:, 1]
    down = torch.arange(height, device=pixels.device) * padded.shape[2]
    return rows.index_select(0, (top_left[:, None] + down).flatten()).view_as(pixels)


def _pad(pixels: Tensor, k: int, padding: PaddingName) -> Tensor:
    n, height, width, channels = pixels.shape
    padded = pixels.new_zeros(n, height + 2 * k, width + 2 * k, channels)
    padded[:, k:-k, k:-k] = pixels
    if padding == "reflect":  # torch's own reflection padding does not take uint8
        padded[:, :, :k] = padded[:, :, k + 1 : 2 * k + 1].flip(2)
        padded[:, :, -k:] = padded[:, :, -2 * k - 1 : -k - 1].flip(2)
        padded[:, :k] = padded[:, k + 1 : 2 * k + 1].flip(1)
        padded[:, -k:] = padded[:, -2 * k - 1 : -k - 1].flip(1)
    return padded


def _cut_out(pixels: Tensor, centre: Tensor, side: int, fill: Tensor) -> Tensor:
    """Fill a square of `side` pixels; what lies outside of the image is lost."""
    height, width, channels = pixels.shape[1:]
    down, across = (
        _inside(size, centre[:, dim] - side // 2, side) for dim, size in enumerate((height, width))
    )
    columns = _words(across.repeat_interleave(channels, dim=1))[:, None, :]
    mask = down.view(torch.int8).to(columns.dtype)[:, :, None] & columns
    old, new = _words(pixels.flatten(2)), _words(fill.repeat(width))
    return (old ^ ((old ^ new) & mask)).view(torch.uint8).view_as(pixels)  # mask ? new : old


def _inside(size: int, start: Tensor, side: int) -> Tensor:
    """Mark the square's positions along one side of the image: uint8 (N,size), 255 or 0."""
    position = torch.arange(size, device=start.device)
    inside = (position >= start[:, None]) & (position < start[:, None] + side)
    return inside.to(torch.uint8) * 255
