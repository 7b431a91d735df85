"""Augmentation of whole batches: uint8 in, uint8 out.

The parameters of all images in an epoch are drawn at once from the seed and the epoch number, so an
epoch can be resumed at any batch. The global random state is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from cifarzoo.device import seeded
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.recipe import Augmentation, PaddingName
from cifarzoo.validation import ROUNDING, validate

__all__ = ["Params", "Transform", "apply", "draw", "generator_for", "transform_images"]

Params: TypeAlias = dict[str, Tensor]  # one row per image
Transform: TypeAlias = Callable[[Tensor], Tensor]
Stream: TypeAlias = Literal["order", "flip", "translate", "cutout", "policy", "transform", "colour"]

LUMA = torch.tensor([0.299, 0.587, 0.114])
GREY = LUMA.expand(3, 3)  # maps colours to grey
QUARTER_TURN = torch.tensor(  # turns red towards green, about the grey axis in YIQ
    [[-0.168, -0.329, 0.497], [0.328, -0.035, -0.293], [-1.250, 1.047, 0.203]]
)
POLICIES = 16  # RandAugment policies per epoch; each transforms its images together


def generator_for(stream: Stream, *, seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of one stream in one epoch.

    Streams are independent: enabling cutout does not change the flips.
    """
    return torch.Generator().manual_seed(_seed_of(stream, epoch, seed=seed))


def _seed_of(stream: Stream, *position: int, seed: int) -> int:
    key = (get_args(Stream).index(stream), *position)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])


def draw(
    augmentation: Augmentation, n: int, *, size: Sequence[int] = (32, 32), seed: int, epoch: int
) -> Params:
    """Draw the parameters of n images in one epoch.

    Args:
        augmentation: which transformations are enabled, and their ranges.
        n: number of images in the epoch.
        size: height and width of the images in pixels.
        seed: seed of the run, 0 or more.
        epoch: number of the epoch, 0 or more.

    Returns:
        A tensor on the CPU for each enabled transformation: "flip", bool (n,); "shift" in pixels
        down and to the right, int64 (n,2); "centre" of the cutout, row and column, int64 (n,2);
        "policy", the seed of a RandAugment policy, int64 (n,); "colour", the factors of brightness,
        contrast and saturation, and the rotation of the hues in turns, float32 (n,4).
    """
    params = {}
    if augmentation.flip != "none":
        # Alternating: drawn once per run and inverted in odd epochs, so every pair of consecutive
        # epochs shows both versions of each image.
        alternating = augmentation.flip == "alternating"
        generator = generator_for("flip", seed=seed, epoch=0 if alternating else epoch)
        flip = torch.rand(n, generator=generator) < 0.5
        params["flip"] = ~flip if alternating and epoch % 2 else flip
    if (limit := augmentation.translate) > 0:
        generator = generator_for("translate", seed=seed, epoch=epoch)
        params["shift"] = torch.randint(-limit, limit + 1, (n, 2), generator=generator)
    if augmentation.cutout:
        generator = generator_for("cutout", seed=seed, epoch=epoch)
        centre = [torch.randint(side, (n,), generator=generator) for side in size]
        params["centre"] = torch.stack(centre, dim=1)
    if augmentation.rand_augment:
        generator = generator_for("policy", seed=seed, epoch=epoch)
        seeds = torch.randint(2**62, (POLICIES,), generator=generator)
        params["policy"] = seeds[torch.randint(POLICIES, (n,), generator=generator)]
    a = augmentation
    if any(strengths := (a.brightness, a.contrast, a.saturation, a.hue)):
        generator = generator_for("colour", seed=seed, epoch=epoch)
        drawn = 2 * torch.rand(n, 4, generator=generator) - 1
        params["colour"] = torch.tensor([1.0, 1.0, 1.0, 0.0]) + torch.tensor(strengths) * drawn
    return params


def apply(images: Tensor, params: Params, augmentation: Augmentation, *, fill: Tensor) -> Tensor:
    """Apply RandAugment, colour jitter, flips, translations and cutout, in this order.

    Args:
        images: uint8 (N,3,H,W), preferably channels_last; not changed.
        params: parameters of these N images, on their device.
        augmentation: the augmentation that `params` were drawn for.
        fill: colour of the cutout square, uint8 (3,).

    Returns:
        uint8 (N,3,H,W), channels_last.
    """
    if "policy" in params:
        images = _rand_augment(images, params["policy"], augmentation)
    pixels = images.permute(0, 2, 3, 1).contiguous()  # (N,H,W,3): no copy of channels_last images
    if "colour" in params:
        pixels = _jitter(pixels, params["colour"])
    if "flip" in params:
        original, flipped = (_words(rows.flatten(1)) for rows in (pixels, pixels.flip(2)))
        chosen = torch.where(params["flip"][:, None], flipped, original)
        pixels = chosen.view(torch.uint8).view_as(pixels)
    if "shift" in params:
        pixels = _translate(pixels, params["shift"], augmentation.translate, augmentation.padding)
    if "centre" in params:
        pixels = _cut_out(pixels, params["centre"], augmentation.cutout, fill)
    return pixels.permute(0, 3, 1, 2)


def transform_images(
    images: Tensor, transform: Transform, *, seed: int, position: tuple[int, ...]
) -> Tensor:
    """Apply a user's transformation, with random numbers that depend on the arguments alone.

    Args:
        images: uint8 (N,3,H,W).
        transform: as in `TensorLoader`.
        seed: seed of the run.
        position: epoch, batch in the epoch, and shard.

    Returns:
        uint8 or float (N,3,H',W').

    Raises:
        InvalidTypeError: the result is not a tensor, or neither uint8 nor floating-point.
        InvalidValueError: the result is not (N,3,H,W), or outside [0, 1].
    """

    def apply_to(part: Tensor) -> Tensor:
        try:
            found = transform(part)
        except Exception as error:
            raise InvalidValueError(
                f"transform fails on a tensor, uint8 {tuple(part.shape)}: {error}"
            ) from error
        return validate("transform(images)", found, InstanceOf[Tensor])

    with seeded(_seed_of("transform", *position, seed=seed) >> 1):
        if _takes_single_images(transform):
            result = torch.stack(list(map(apply_to, images)))
        else:
            result = apply_to(images)
    if result.ndim != 4 or result.shape[:2] != images.shape[:2]:
        raise InvalidValueError(
            f"transform returned shape {tuple(result.shape)}: expected {len(images)} images "
            "(N,3,H,W)"
        )
    if result.dtype != torch.uint8 and not result.is_floating_point():
        raise InvalidTypeError(
            f"transform returned {result.dtype}: expected uint8, or float in [0, 1]"
        )
    if result.is_floating_point() and not result.is_cuda and result.numel():
        low, high = (float(value) for value in torch.aminmax(result))
        if not -ROUNDING <= low <= high <= 1 + ROUNDING:
            raise InvalidValueError(
                f"transform returned values in [{low:.4g}, {high:.4g}]: expected uint8, or float "
                "in [0, 1]; models normalise their input"
            )
    return result


def _takes_single_images(transform: Transform) -> bool:
    """Return whether a transform draws once per call: torchvision's do, also inside others."""
    inner = transform.modules() if isinstance(transform, nn.Module) else [transform]
    kinds = [type(each).__module__ for each in inner]
    return any(kind.startswith("torchvision.transforms") for kind in kinds)


def _rand_augment(images: Tensor, policy: Tensor, augmentation: Augmentation) -> Tensor:
    """Transform the images of each policy together, with torchvision's RandAugment."""
    from torchvision.transforms import v2

    transform = v2.RandAugment(augmentation.rand_augment, augmentation.magnitude)
    result = torch.empty_like(images)
    for seed in sorted(set(policy.tolist())):
        chosen = policy == seed
        with seeded(seed):
            result[chosen] = transform(images[chosen])
    return result


def _jitter(pixels: Tensor, colour: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hues: one affine map of colours per image."""
    brightness, contrast, saturation, turns = colour.unbind(1)
    grey, quarter_turn = GREY.to(pixels.device), QUARTER_TURN.to(pixels.device)
    angle = 2 * math.pi * turns
    cos, sin = ((saturation * part)[:, None, None] for part in (angle.cos(), angle.sin()))
    matrix = grey + cos * (torch.eye(3, device=pixels.device) - grey) + sin * quarter_turn
    colours = pixels.flatten(1, 2).to(torch.float32)  # (N,H*W,3)
    luma = colours.mean(1) @ grey[0]
    offset = (brightness * (1 - contrast) * luma)[:, None, None]
    result = torch.baddbmm(offset, colours, (brightness * contrast)[:, None, None] * matrix.mT)
    return result.round_().clamp_(0, 255).to(torch.uint8).view_as(pixels)


def _words(rows: Tensor) -> Tensor:
    """View rows of bytes as int64 if the length allows: an eighth of the operations."""
    return rows.view(torch.int64) if rows.shape[-1] % 8 == 0 else rows


def _translate(pixels: Tensor, shift: Tensor, limit: int, padding: PaddingName) -> Tensor:
    """Pad the batch, then gather all rows of all shifted windows at once.

    A row of a window is W*3 contiguous bytes that can start at any pixel of the padded batch.
    """
    n, height, width, channels = pixels.shape
    padded = _pad(pixels, limit, padding)
    row_bytes = width * channels
    starts = (padded.numel() - row_bytes) // channels + 1
    rows = padded.as_strided((starts, row_bytes), (channels, 1))
    corner = limit - shift  # the window moves up where the content moves down
    image = torch.arange(n, device=pixels.device)
    top_left = (image * padded.shape[1] + corner[:, 0]) * padded.shape[2] + corner[:, 1]
    down = torch.arange(height, device=pixels.device) * padded.shape[2]
    return rows.index_select(0, (top_left[:, None] + down).flatten()).view_as(pixels)


def _pad(pixels: Tensor, k: int, padding: PaddingName) -> Tensor:
    n, height, width, channels = pixels.shape
    padded = pixels.new_zeros(n, height + 2 * k, width + 2 * k, channels)
    padded[:, k:-k, k:-k] = pixels
    if padding == "reflect":  # torch's reflection padding does not take uint8
        padded[:, :, :k] = padded[:, :, k + 1 : 2 * k + 1].flip(2)
        padded[:, :, -k:] = padded[:, :, -2 * k - 1 : -k - 1].flip(2)
        padded[:, :k] = padded[:, k + 1 : 2 * k + 1].flip(1)
        padded[:, -k:] = padded[:, -2 * k - 1 : -k - 1].flip(1)
    return padded


def _cut_out(pixels: Tensor, centre: Tensor, side: int, fill: Tensor) -> Tensor:
    """Fill a square of `side` pixels, clipped at the border of the image."""
    height, width, channels = pixels.shape[1:]
    down = _inside(height, centre[:, 0] - side // 2, side)
    across = _inside(width, centre[:, 1] - side // 2, side)
    columns = _words(across.repeat_interleave(channels, dim=1))[:, None, :]
    mask = down.view(torch.int8).to(columns.dtype)[:, :, None] & columns
    old, new = _words(pixels.flatten(2)), _words(fill.repeat(width))
    return (old ^ ((old ^ new) & mask)).view(torch.uint8).view_as(pixels)  # mask ? new : old


def _inside(size: int, start: Tensor, side: int) -> Tensor:
    """Return 255 at positions on an axis inside the square, else 0, uint8 (N,size)."""
    position = torch.arange(size, device=start.device)
    inside = (position >= start[:, None]) & (position < start[:, None] + side)
    return inside.to(torch.uint8) * 255
