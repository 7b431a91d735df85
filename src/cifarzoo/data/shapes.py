"""Ten shapes, drawn on demand: a stand-in for CIFAR-10 that needs no files.

Every image shows one shape of random colour, size, position and rotation on a shaded background
with specks and noise. Colour is independent of the class, so a linear model learns little, while a
small convolutional network learns nearly everything.

Each shape is a signed distance function, negative inside, in units of its radius. Pixels at its
edge are blended by the fraction that it covers. Source of the star and the heart: Inigo Quilez, "2D
distance functions".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cifarzoo.data.cifar import ImageData
from cifarzoo.validation import PositiveInt, Seed, validate

__all__ = ["SHAPE_CLASSES", "load_shapes"]

SIDE = 32  # pixels
CHUNK = 500  # images drawn together, from their own seed
SPECKS = 4
NOISE = 0.03  # standard deviation, where colours are in [0, 1]
MAX_ROTATION = math.pi / 6  # in either direction


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _star(x: Tensor, y: Tensor) -> Tensor:
    wedge, slope = math.pi / 5, math.pi / 3.2  # five points; the slope sets their sharpness
    edge = math.sin(wedge) / math.sin(slope)
    radius, angle = torch.hypot(x, y), torch.atan2(x, y).remainder(2 * wedge) - wedge
    along = radius * angle.cos() - math.cos(wedge)
    across = radius * angle.sin().abs() - math.sin(wedge)
    to_edge = -(along * math.cos(slope) + across * math.sin(slope))
    along = along + math.cos(slope) * to_edge.clamp(0, edge)
    across = across + math.sin(slope) * to_edge.clamp(0, edge)
    return torch.hypot(along, across) * along.sign()


def _heart(x: Tensor, y: Tensor) -> Tensor:
    scale = 0.6
    x, y = x.abs() * scale, y * scale + 0.55
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    foot = (x + y).clamp(min=0) / 2
    tip = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - foot, y - foot)) * (x - y).sign()
    return torch.where(x + y > 1, lobe, tip) / scale


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y: torch.hypot(x, y) - 0.85,
    "ring": lambda x, y: (torch.hypot(x, y) - 0.75).abs() - 0.2,
    "crescent": lambda x, y: torch.maximum(
        torch.hypot(x, y) - 0.95, -(torch.hypot(x - 0.5, y) - 0.75)
    ),
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "triangle": lambda x, y: torch.maximum(x.abs() * math.sqrt(0.75) + y / 2, -y) - 0.5,
    "star": _star,
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.95, 0.28), _box(x, y, 0.28, 0.95)),
    "heart": _heart,
    "stripes": lambda x, y: _box((x.abs() - 0.35).abs() - 0.35, y, 0.16, 0.85),  # x folds 3 bars
    "pair": lambda x, y: torch.hypot(x.abs() - 0.55, y) - 0.4,
}

SHAPE_CLASSES = tuple(_DISTANCES)


def load_shapes(n_train: int = 20_000, n_test: int = 4_000, *, seed: int = 0) -> ImageData:
    """Draw the built-in shapes.

    The first images are the same for every number of images, and every ten contain each class once.

    Args:
        n_train: number of training images.
        n_test: number of test images.
        seed: seed of all random properties, 0 or more.

    Returns:
        Images, uint8 (N,3,32,32), and labels, which index `SHAPE_CLASSES`.
    """
    n_train = validate("n_train", n_train, PositiveInt)
    n_test = validate("n_test", n_test, PositiveInt)
    seed = validate("seed", seed, Seed)
    return ImageData(*_draw(n_train, seed, split=0), *_draw(n_test, seed, split=1))


def _draw(n: int, seed: int, *, split: int) -> tuple[Tensor, Tensor]:
    chunks = [_draw_chunk(seed, split, index) for index in range(math.ceil(n / CHUNK))]
    images, labels = (torch.cat(parts)[:n] for parts in zip(*chunks, strict=True))
    return images.contiguous(memory_format=torch.channels_last), labels


def _draw_chunk(seed: int, split: int, index: int) -> tuple[Tensor, Tensor]:
    """Draw images, uint8 (CHUNK,3,32,32), and labels (CHUNK,)."""
    sequence = np.random.SeedSequence(seed, spawn_key=(split, index))
    rng = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
    side = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y = side[None, :], -side[:, None]  # in pixels from the centre, y upwards

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.rand(CHUNK, channels, 1, 1, generator=rng) * (high - low) + low

    def shaded(colour: Tensor, strength: float) -> Tensor:
        """Return images of a colour with a linear gradient."""
        angle = uniform(0, 2 * math.pi)
        ramp = (angle.cos() * x + angle.sin() * y) / (SIDE / 2)
        return colour + ramp * uniform(-strength, strength, 3)

    classes = len(SHAPE_CLASSES)
    labels = torch.rand(CHUNK // classes, classes, generator=rng).argsort(dim=1).flatten()
    background, candidates = uniform(0, 1, 3), torch.stack([uniform(0, 1, 3) for _ in range(4)])
    furthest = (candidates - background).square().sum(dim=2).flatten(1).argmax(dim=0)
    canvas = shaded(background, 0.3)
    for _ in range(SPECKS):
        colour, x0, y0 = uniform(0, 1, 3), uniform(-15, 15), uniform(-15, 15)
        canvas.lerp_(colour, _cover(torch.hypot(x - x0, y - y0) - uniform(0.5, 1.5)))
    figure = shaded(candidates[furthest, torch.arange(CHUNK)], 0.2)
    radius, angle = uniform(8, 13), uniform(-MAX_ROTATION, MAX_ROTATION)
    u, v = ((axis - uniform(-1, 1) * (SIDE / 2 - radius)) / radius for axis in (x, y))
    u, v = angle.cos() * u + angle.sin() * v, angle.cos() * v - angle.sin() * u
    distance = torch.empty(CHUNK, 1, SIDE, SIDE)
    for label, shape in enumerate(_DISTANCES.values()):
        chosen = labels == label
        distance[chosen] = shape(u[chosen], v[chosen])
    canvas.lerp_(figure, _cover(distance * radius))
    canvas += torch.randn(canvas.shape, generator=rng).mul_(NOISE)
    return canvas.clamp_(0, 1).mul_(255).round_().to(torch.uint8), labels


def _cover(distance: Tensor) -> Tensor:
    """Return the covered fraction of each pixel, from signed distances in pixels."""
    return (0.5 - distance).clamp_(0, 1)
