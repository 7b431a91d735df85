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
Position: TypeAlias = tuple[Tensor | float, Tensor | float, Tensor | float]
Stream: TypeAlias = Literal[
    "order",
    "flip",
    "translate",
    "cutout",
    "operation",
    "transform",
    "colour",
    "rotation",
    "sharpness",
    "erase",
]

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32)
GREY = LUMA.expand(3, 3)  # maps colours to grey
QUARTER_TURN = torch.tensor(  # turns red towards green, about the grey axis in YIQ
    [[-0.168, -0.329, 0.497], [0.328, -0.035, -0.293], [-1.250, 1.047, 0.203]],
    dtype=torch.float32,
)
UNCHANGED = torch.tensor([1, 1, 1, 0], dtype=torch.float32)  # brightness to hue
STRENGTHS = 31  # of an operation of RandAugment or TrivialAugment
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)  # as in torchvision's RandomErasing


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
        A tensor on the CPU for each enabled transformation: "operation" and "strength", indices of
        RandAugment's or TrivialAugment's operations and their strengths in torchvision's units,
        int64 and float32 (n,k); "angle" in degrees, counter-clockwise, float32 (n,); "sharpness",
        its factor, float32 (n,); "colour", the factors of brightness, contrast and saturation, and
        the rotation of the hues in turns, float32 (n,4); "flip", bool (n,); "shift" in pixels down
        and to the right, int64 (n,2); "centre" of the cutout, row and column, int64 (n,2); "erased"
        rectangles, row, column, height and width, int64 (n,4).
    """
    a, params = augmentation, Params()

    def rand(stream: Stream, *shape: int, epoch: int = epoch) -> Tensor:
        generator = generator_for(stream, seed=seed, epoch=epoch)
        return torch.rand(*shape, generator=generator, dtype=torch.float32)

    if a.rand_augment or a.trivial_augment:
        generator = generator_for("operation", seed=seed, epoch=epoch)
        params |= _draw_operations(a, n, size, generator)
    if a.rotation:
        params["angle"] = a.rotation * (2 * rand("rotation", n) - 1)
    if a.sharpness:
        params["sharpness"] = 1 + a.sharpness * (2 * rand("sharpness", n) - 1)
    if any(strengths := (a.brightness, a.contrast, a.saturation, a.hue)):
        ranges = torch.tensor(strengths, dtype=torch.float32)
        params["colour"] = UNCHANGED + ranges * (2 * rand("colour", n, 4) - 1)
    if a.flip != "none":
        # Alternating: drawn once per run and inverted in odd epochs, so every pair of consecutive
        # epochs shows both versions of each image.
        alternating = a.flip == "alternating"
        flip = rand("flip", n, epoch=0 if alternating else epoch) < 0.5
        params["flip"] = ~flip if alternating and epoch % 2 else flip
    if a.translate:
        generator = generator_for("translate", seed=seed, epoch=epoch)
        limits = -a.translate, a.translate + 1
        params["shift"] = torch.randint(*limits, (n, 2), generator=generator)
    if a.cutout:
        generator = generator_for("cutout", seed=seed, epoch=epoch)
        centre = [torch.randint(side, (n,), generator=generator) for side in size]
        params["centre"] = torch.stack(centre, dim=1)
    if a.erase:
        params["erased"] = _rectangles(rand("erase", 5, n), a.erase, size)
    return params


def _draw_operations(
    a: Augmentation, n: int, size: Sequence[int], generator: torch.Generator
) -> Params:
    """Draw operations and strengths as torchvision's `RandAugment` and `TrivialAugmentWide` do."""
    if a.trivial_augment:
        count, shear, degrees, colour, bits = 1, 0.99, 135, 0.99, 6
        down = across = 32.0
        level = torch.randint(STRENGTHS, (n, count), generator=generator)
    else:
        count, shear, degrees, colour, bits = a.rand_augment, 0.3, 30, 0.9, 4
        down, across = (150 / 331 * side for side in size)
        level = torch.full((n, count), a.magnitude)
    largest = (0, shear, shear, across, down, degrees, *[colour] * 4, bits, 1, 0, 0)
    strengths = [torch.linspace(0, each, STRENGTHS, dtype=torch.float32) for each in largest]
    operation = torch.randint(len(OPERATIONS), (n, count), generator=generator)
    sign = 2 * torch.randint(2, (n, count), generator=generator) - 1
    return {"operation": operation, "strength": sign * torch.stack(strengths)[operation, level]}


def _rectangles(random: Tensor, probability: float, size: Sequence[int]) -> Tensor:
    """Return rectangles from uniform numbers (5,n), empty ones for images that are not erased."""
    chosen, area, aspect, *place = random
    low, high = ERASED_AREA
    area = math.prod(size) * (low + (high - low) * area)
    low, high = map(math.log, ERASED_ASPECT)
    aspect = (low + (high - low) * aspect).exp()
    limit = torch.tensor(size)
    sides = torch.stack([area * aspect, area / aspect], dim=1).sqrt().round().long()
    sides = sides.minimum(limit) * (chosen < probability)[:, None]
    corner = (torch.stack(place, dim=1) * (limit + 1 - sides)).long()
    return torch.cat([corner, sides], dim=1)


def apply(images: Tensor, params: Params, augmentation: Augmentation, *, fill: Tensor) -> Tensor:
    """Apply the enabled transformations.

    The order is: RandAugment or TrivialAugment, rotation, sharpness, colour jitter, flips,
    translations, cutout, random erasing.

    Args:
        images: uint8 (N,3,H,W), preferably channels_last; not changed.
        params: parameters of these N images, on their device.
        augmentation: the augmentation that `params` were drawn for.
        fill: colour of cutout and random erasing, uint8 (3,).

    Returns:
        uint8 (N,3,H,W), channels_last.
    """
    pixels = images.permute(0, 2, 3, 1).contiguous()  # (N,H,W,3): no copy of channels_last images
    if "operation" in params:
        for step in zip(params["operation"].T, params["strength"].T, strict=True):
            pixels = _operate(pixels, *step)
    if "angle" in params:
        pixels = _rotate(pixels, params["angle"], "bilinear", augmentation.padding)
    if "sharpness" in params:
        pixels = _sharpen(pixels, params["sharpness"])
    if "colour" in params:
        pixels = _jitter(pixels, params["colour"])
    if "flip" in params:
        original, flipped = (_words(rows.flatten(1)) for rows in (pixels, pixels.flip(2)))
        chosen = torch.where(params["flip"][:, None], flipped, original)
        pixels = chosen.view(torch.uint8).view_as(pixels)
    if "shift" in params:
        pixels = _translate(pixels, params["shift"], augmentation.translate, augmentation.padding)
    if "centre" in params:
        corner = params["centre"] - augmentation.cutout // 2
        pixels = _erase(pixels, corner, torch.full_like(corner, augmentation.cutout), fill)
    if "erased" in params:
        corner, sides = params["erased"].chunk(2, dim=1)
        pixels = _erase(pixels, corner, sides, fill)
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


def _operate(pixels: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Apply one operation to each image, to the images of an operation together."""
    order = operation.argsort()
    counts = operation.bincount(minlength=len(OPERATIONS)).tolist()
    parts = zip(*(torch.split(each[order], counts) for each in (pixels, strength)), strict=True)
    result = torch.empty_like(pixels)
    result[order] = torch.cat(
        [apply_to(*part) for apply_to, part in zip(OPERATIONS, parts, strict=True) if len(part[0])]
    )
    return result


def _rotate(
    pixels: Tensor,
    degrees: Tensor,
    mode: Literal["nearest", "bilinear"] = "nearest",
    padding: PaddingName = "zero",
) -> Tensor:
    angle = torch.deg2rad(degrees)
    sin, cos = angle.sin(), angle.cos()
    return _warp(pixels, (cos, -sin, 0.0), (sin, cos, 0.0), mode, padding)


def _warp(
    pixels: Tensor,
    x_from: Position,
    y_from: Position,
    mode: Literal["nearest", "bilinear"] = "nearest",
    padding: PaddingName = "zero",
) -> Tensor:
    """Sample the images at other positions, which are affine in those of the result.

    Positions are relative to the centre, to the right and down. `x_from` are the factors of x and
    of y and the constant, per image (N,) or for all; `y_from` likewise.
    """
    height, width = pixels.shape[1:3]
    y, x = (
        torch.arange(side, dtype=torch.float32, device=pixels.device) - (side - 1) / 2
        for side in (height, width)
    )

    def sampled(a: Tensor | float, b: Tensor | float, c: Tensor | float) -> Tensor:
        a, b, c = (v[:, None, None] if isinstance(v, Tensor) else v for v in (a, b, c))
        return a * x + b * y[:, None] + c

    columns, rows = sampled(*x_from) * (2 / (width - 1)), sampled(*y_from) * (2 / (height - 1))
    whole = len(pixels), height, width
    grid = torch.stack([columns.expand(whole), rows.expand(whole)], dim=-1)
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    border = "reflection" if padding == "reflect" else "zeros"
    # Corners are aligned so that reflection does not repeat the border, as in `_pad`.
    result = nn.functional.grid_sample(images, grid, mode, border, align_corners=True)
    return result.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _sharpen(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image, as torchvision's `adjust_sharpness`; the border stays."""
    values = pixels.to(torch.float32)
    inner = values[:, 1:-1, 1:-1]
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    smooth = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * inner
    inner.lerp_(smooth / 13, (1 - factor)[:, None, None, None])
    return values.round_().clamp_(0, 255).to(torch.uint8)


def _adjust(pixels: Tensor, strength: Tensor, index: int) -> Tensor:
    """Change brightness (0), contrast (1) or saturation (2) by a relative strength."""
    colour = UNCHANGED.to(pixels.device).repeat(len(pixels), 1)
    colour[:, index] += strength
    return _jitter(pixels, colour)


def _posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Clear the lowest bits, `strength` of them."""
    bits = strength.abs().round().to(torch.uint8)
    return pixels >> bits[:, None, None, None] << bits[:, None, None, None]


def _solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Invert values that are at least 255 * (1 - strength)."""
    threshold = 255 * (1 - strength.abs())[:, None, None, None]
    return torch.where(pixels >= threshold, ~pixels, pixels)


def _by_torchvision(name: str, pixels: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = getattr(functional, name)(pixels.permute(0, 3, 1, 2))
    return changed.permute(0, 2, 3, 1)


# The operations of torchvision's RandAugment and TrivialAugmentWide, in their order, for pixels
# (N,H,W,3) and strengths (N,). The sign of a strength matters from shear to sharpness only.
OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda pixels, _: pixels,
    lambda pixels, s: _warp(pixels, (1, s, s * pixels.shape[1] / 2), (0, 1, 0)),  # shear
    lambda pixels, s: _warp(pixels, (1, 0, 0), (s, 1, s * pixels.shape[2] / 2)),
    lambda pixels, s: _warp(pixels, (1, 0, -s.trunc()), (0, 1, 0)),  # translate
    lambda pixels, s: _warp(pixels, (1, 0, 0), (0, 1, -s.trunc())),
    _rotate,
    lambda pixels, s: _adjust(pixels, s, 0),
    lambda pixels, s: _adjust(pixels, s, 2),
    lambda pixels, s: _adjust(pixels, s, 1),
    lambda pixels, s: _sharpen(pixels, 1 + s),
    _posterize,
    _solarize,
    lambda pixels, _: _by_torchvision("autocontrast", pixels),
    lambda pixels, _: _by_torchvision("equalize", pixels),
)


def _jitter(pixels: Tensor, colour: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hues: one affine map of colours per image."""
    brightness, contrast, saturation, turns = colour.unbind(1)
    grey, quarter_turn = GREY.to(pixels.device), QUARTER_TURN.to(pixels.device)
    angle = 2 * math.pi * turns
    cos, sin = ((saturation * part)[:, None, None] for part in (angle.cos(), angle.sin()))
    matrix = grey + cos * (torch.eye(3).to(grey) - grey) + sin * quarter_turn
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


def _erase(pixels: Tensor, corner: Tensor, sides: Tensor, fill: Tensor) -> Tensor:
    """Fill one rectangle per image, clipped at the border of the image."""
    height, width, channels = pixels.shape[1:]
    down = _inside(height, corner[:, 0], sides[:, 0])
    across = _inside(width, corner[:, 1], sides[:, 1])
    columns = _words(across.repeat_interleave(channels, dim=1))[:, None, :]
    mask = down.view(torch.int8).to(columns.dtype)[:, :, None] & columns
    old, new = _words(pixels.flatten(2)), _words(fill.repeat(width))
    return (old ^ ((old ^ new) & mask)).view(torch.uint8).view_as(pixels)  # mask ? new : old


def _inside(size: int, start: Tensor, side: Tensor) -> Tensor:
    """Return 255 at positions on an axis inside the rectangle, else 0, uint8 (N,size)."""
    position = torch.arange(size, device=start.device)
    inside = (position >= start[:, None]) & (position < (start + side)[:, None])
    return inside.to(torch.uint8) * 255
