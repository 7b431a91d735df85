"""Ten shapes, drawn on the spot: a stand-in for trying things where there is no data.

Every image holds one shape of any colour, size, place and rotation on a shaded background, with
specks and noise. Class and colour have nothing to do with each other, so a linear model finds
little, and a small convolutional network nearly everything.

Each shape is a signed distance: negative inside, in units of the shape's radius. From it comes how
much of a pixel is covered, and so smooth edges. Source of the star's and the heart's formula:
Inigo Quilez, "2D distance functions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cifarzoo.data.images import ImageData
from cifarzoo.errors import OptionError

__all__ = ["SHAPE_CLASSES", "load_shapes"]

Floats: TypeAlias = npt.NDArray[np.float32]

SIDE = 32  # pixels
CHUNK = 500  # images drawn at once, each chunk from its own seed
SPECKS = 4


def _disc(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.85


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.75) - 0.2


def _crescent(x: Floats, y: Floats) -> Floats:
    bite = np.hypot(x - 0.5, y) - 0.75
    return np.maximum(np.hypot(x, y) - 0.95, -bite)


def _box(x: Floats, y: Floats, width: float, height: float) -> Floats:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.75, 0.75)


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x) * 0.75**0.5 + y / 2, -y) - 0.5


def _cross(x: Floats, y: Floats) -> Floats:
    return np.minimum(_box(x, y, 0.95, 0.28), _box(x, y, 0.28, 0.95))


def _star(x: Floats, y: Floats) -> Floats:
    wedge, slope = np.pi / 5, np.pi / 3.2  # five points; the slope says how sharp they are
    angle = np.mod(np.arctan2(x, y), 2 * wedge) - wedge
    radius = np.hypot(x, y)
    along = radius * np.cos(angle) - np.cos(wedge)
    across = radius * np.abs(np.sin(angle)) - np.sin(wedge)
    to_edge = np.clip(
        -(along * np.cos(slope) + across * np.sin(slope)), 0, np.sin(wedge) / np.sin(slope)
    )
    along, across = along + np.cos(slope) * to_edge, across + np.sin(slope) * to_edge
    return np.hypot(along, across) * np.sign(along)


def _heart(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x) * 0.6, y * 0.6 + 0.55
    lobe = np.hypot(x - 0.25, y - 0.75) - 2**0.5 / 4
    foot = np.maximum(x + y, 0) / 2
    tip = np.minimum(np.hypot(x, y - 1), np.hypot(x - foot, y - foot)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, tip) / 0.6


def _stripes(x: Floats, y: Floats) -> Floats:
    nearest = np.abs(np.abs(x) - 0.35) - 0.35  # folds the three bars onto one
    return _box(nearest, y, 0.16, 0.85)


def _pair(x: Floats, y: Floats) -> Floats:
    return np.hypot(np.abs(x) - 0.55, y) - 0.4


_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": _disc,
    "ring": _ring,
    "crescent": _crescent,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "stripes": _stripes,
    "pair": _pair,
}

SHAPE_CLASSES = tuple(_DISTANCES)


def load_shapes(n_train: int = 20_000, n_test: int = 4_000, *, seed: int = 0) -> ImageData:
    """Draw the built-in shapes.

    The first images are the same for every number of images, and every ten hold each class once.

    Args:
        n_train: number of training images.
        n_test: number of test images.
        seed: of everything that is random in the images, 0 or more.

    Returns:
        Images, uint8 (N,3,32,32), and labels into `SHAPE_CLASSES`.

    Raises:
        OptionError: a number of images is under 1, or the seed is negative.
    """
    for name, value, low in (("n_train", n_train, 1), ("n_test", n_test, 1), ("seed", seed, 0)):
        if value < low:
            raise OptionError(f"{name} is {value}; allowed: {low} or more")
    return ImageData(*_draw(n_train, seed, split=0), *_draw(n_test, seed, split=1))


def _draw(n: int, seed: int, *, split: int) -> tuple[Tensor, Tensor]:
    pixels = np.empty((n, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(n, np.int64)
    for chunk, first in enumerate(range(0, n, CHUNK)):
        stop = min(first + CHUNK, n)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split, chunk)))
        drawn, of = _draw_chunk(rng)
        pixels[first:stop], labels[first:stop] = drawn[: stop - first], of[: stop - first]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _draw_chunk(rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    tens = np.tile(np.arange(len(SHAPE_CLASSES)), (CHUNK // len(SHAPE_CLASSES), 1))
    labels = rng.permuted(tens, axis=1).ravel()
    background, figure = _colours(rng)
    canvas = _shaded(rng, background, 0.3)
    for _ in range(SPECKS):
        canvas = _over(canvas, _speck(rng), rng.random((CHUNK, 1, 1, 3), np.float32))
    canvas = _over(canvas, _figure(rng, labels), _shaded(rng, figure, 0.2))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(0.03)
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8), labels


def _colours(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Give a background's and a figure's colour (CHUNK,3) that can be told apart."""
    background = rng.random((CHUNK, 3), np.float32)
    candidates = rng.random((4, CHUNK, 3), np.float32)
    furthest = np.linalg.norm(candidates - background, axis=2).argmax(axis=0)
    return background, candidates[furthest, np.arange(CHUNK)]


def _grid() -> tuple[Floats, Floats]:
    """Give each pixel's place, (1,32,32) each, in pixels from the middle; y points up."""
    side = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    return side[None, None, :], -side[None, :, None]


def _uniform(rng: np.random.Generator, low: float, high: float) -> Floats:
    return rng.uniform(low, high, (CHUNK, 1, 1)).astype(np.float32)


def _shaded(rng: np.random.Generator, colour: Floats, strength: float) -> Floats:
    """Fill images (CHUNK,32,32,3) with a colour that changes in some direction."""
    x, y = _grid()
    angle = _uniform(rng, 0, 2 * np.pi)
    ramp = (np.cos(angle) * x + np.sin(angle) * y) / SIDE
    change = rng.uniform(-strength, strength, (CHUNK, 1, 1, 3)).astype(np.float32)
    return colour[:, None, None, :] + ramp[..., None] * 2 * change


def _over(canvas: Floats, cover: Floats, colour: Floats) -> Floats:
    return canvas + cover[..., None] * (colour - canvas)


def _speck(rng: np.random.Generator) -> Floats:
    x, y = _grid()
    radius = _uniform(rng, 0.5, 1.5)
    distance = np.hypot(x - _uniform(rng, -15, 15), y - _uniform(rng, -15, 15)) - radius
    return (0.5 - distance).clip(0, 1)


def _figure(rng: np.random.Generator, labels: npt.NDArray[np.int64]) -> Floats:
    """Give how much of each pixel the shape covers, float32 (CHUNK,32,32) in [0, 1]."""
    x, y = _grid()
    radius, angle = _uniform(rng, 8, 13), _uniform(rng, 0, 2 * np.pi)
    x, y = (side - _uniform(rng, -1, 1) * (SIDE / 2 - radius) for side in (x, y))
    along, up = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    cover = np.empty((CHUNK, SIDE, SIDE), np.float32)
    for label, distance in enumerate(_DISTANCES.values()):
        own = labels == label
        inside = distance(along[own] / radius[own], up[own] / radius[own]) * radius[own]
        cover[own] = (0.5 - inside).clip(0, 1)
    return cover
