"""Ten shapes, drawn on the spot: a stand-in for trying things where there is no data.

Every image holds one shape of any colour, size, place and rotation on a shaded background, with
specks and noise. Class and colour have nothing to do with each other, so a linear model finds
little, and a small convolutional network nearly everything.

Each shape is a signed distance: negative inside, in units of the shape's radius. From it comes how
much of a pixel is covered, and so smooth edges. Source of the star's and the heart's formula:
Inigo Quilez, "2D distance functions".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cifarzoo.data.images import ImageData
from cifarzoo.spec import require_whole

__all__ = ["SHAPE_CLASSES", "load_shapes"]

SIDE = 32  # pixels
CHUNK = 500  # images that are drawn at once, each chunk from a seed of its own
SPECKS = 4
NOISE = 0.03  # standard deviation, of a range of 1
TURN = math.pi / 6  # the most that a shape is turned either way


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.85


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.75).abs() - 0.2


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    bite = torch.hypot(x - 0.5, y) - 0.75
    return torch.maximum(torch.hypot(x, y) - 0.95, -bite)


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.75, 0.75)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() * math.sqrt(0.75) + y / 2, -y) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    wedge, slope = math.pi / 5, math.pi / 3.2  # five points; the slope says how sharp they are
    edge = math.sin(wedge) / math.sin(slope)
    radius, angle = torch.hypot(x, y), torch.atan2(x, y).remainder(2 * wedge) - wedge
    along = radius * angle.cos() - math.cos(wedge)
    across = radius * angle.sin().abs() - math.sin(wedge)
    to_edge = -(along * math.cos(slope) + across * math.sin(slope))
    along = along + math.cos(slope) * to_edge.clamp(0, edge)
    across = across + math.sin(slope) * to_edge.clamp(0, edge)
    return torch.hypot(along, across) * along.sign()


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.95, 0.28), _box(x, y, 0.28, 0.95))


def _heart(x: Tensor, y: Tensor) -> Tensor:
    scale = 0.6
    x, y = x.abs() * scale, y * scale + 0.55
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    foot = (x + y).clamp(min=0) / 2
    tip = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - foot, y - foot)) * (x - y).sign()
    return torch.where(x + y > 1, lobe, tip) / scale


def _stripes(x: Tensor, y: Tensor) -> Tensor:
    nearest = (x.abs() - 0.35).abs() - 0.35  # folds the three bars onto one
    return _box(nearest, y, 0.16, 0.85)


def _pair(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x.abs() - 0.55, y) - 0.4


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
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
        require_whole(name, value, low, math.inf, f"{low} or more")
    return ImageData(*_draw(n_train, seed, split=0), *_draw(n_test, seed, split=1))


def _draw(n: int, seed: int, *, split: int) -> tuple[Tensor, Tensor]:
    pixels = torch.empty(n, SIDE, SIDE, 3, dtype=torch.uint8)
    labels = torch.empty(n, dtype=torch.int64)
    for chunk, first in enumerate(range(0, n, CHUNK)):
        stop = min(first + CHUNK, n)
        images, drawn = _Artist(seed, split, chunk).draw()
        pixels[first:stop] = images.permute(0, 2, 3, 1)[: stop - first]
        labels[first:stop] = drawn[: stop - first]
    return pixels.permute(0, 3, 1, 2), labels


class _Artist:
    """Draws one chunk of images from a seed of its own."""

    def __init__(self, seed: int, split: int, chunk: int) -> None:
        sequence = np.random.SeedSequence(seed, spawn_key=(split, chunk))
        self._rng = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        side = torch.arange(SIDE) - (SIDE - 1) / 2
        self._x, self._y = side[None, :], -side[:, None]  # in pixels from the middle, y up

    def draw(self) -> tuple[Tensor, Tensor]:
        """Give images, uint8 (CHUNK,3,32,32), and labels."""
        classes = len(SHAPE_CLASSES)
        labels = torch.rand(CHUNK // classes, classes, generator=self._rng).argsort(dim=1).flatten()
        background, figure = self._colours()
        canvas = self._shaded(background, 0.3)
        for _ in range(SPECKS):
            canvas.lerp_(self._uniform(0, 1, 3), self._speck())
        canvas.lerp_(self._shaded(figure, 0.2), self._figure(labels))
        canvas += torch.randn(canvas.shape, generator=self._rng).mul_(NOISE)
        return canvas.clamp_(0, 1).mul_(255).round_().to(torch.uint8), labels

    def _uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """Give random numbers (CHUNK,channels,1,1)."""
        return torch.rand(CHUNK, channels, 1, 1, generator=self._rng) * (high - low) + low

    def _colours(self) -> tuple[Tensor, Tensor]:
        """Give a background's and a figure's colour, (CHUNK,3,1,1), that can be told apart."""
        background = self._uniform(0, 1, 3)
        candidates = torch.stack([self._uniform(0, 1, 3) for _ in range(4)])
        furthest = (candidates - background).square().sum(dim=2).flatten(1).argmax(dim=0)
        return background, candidates[furthest, torch.arange(CHUNK)]

    def _shaded(self, colour: Tensor, strength: float) -> Tensor:
        """Fill images (CHUNK,3,32,32) with a colour that changes in some direction."""
        angle = self._uniform(0, 2 * math.pi)
        ramp = (angle.cos() * self._x + angle.sin() * self._y) / (SIDE / 2)
        return colour + ramp * self._uniform(-strength, strength, 3)

    def _speck(self) -> Tensor:
        across, down, radius = (self._uniform(*ends) for ends in ((-15, 15), (-15, 15), (0.5, 1.5)))
        return _cover(torch.hypot(self._x - across, self._y - down) - radius)

    def _figure(self, labels: Tensor) -> Tensor:
        """Give how much of each pixel the shape covers, (CHUNK,1,32,32) in [0, 1]."""
        radius, angle = self._uniform(8, 13), self._uniform(-TURN, TURN)
        x, y = (
            (side - self._uniform(-1, 1) * (SIDE / 2 - radius)) / radius
            for side in (self._x, self._y)
        )
        turned_x, turned_y = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
        inside = torch.empty(CHUNK, 1, SIDE, SIDE)
        for label, distance in enumerate(_DISTANCES.values()):
            own = labels == label
            inside[own] = distance(turned_x[own], turned_y[own])
        return _cover(inside * radius)


def _cover(distance: Tensor) -> Tensor:
    """Turn distances in pixels into the share of a pixel that is covered."""
    return (0.5 - distance).clamp_(0, 1)
