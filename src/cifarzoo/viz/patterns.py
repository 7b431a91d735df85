"""A test pattern that shows what a filter responds to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cifarzoo.viz._inputs import check_int

MAX_FREQUENCY = 0.16  # cycles per pixel: 3 pixels per cycle on the maps of a stride-2 layer
GRATING_FREQUENCY = 0.125  # cycles per pixel
ORIENTATIONS = (0, 45, 90, 135)  # degrees
COLOUR_PAIRS = (
    ((0.85, 0.15, 0.15), (0.10, 0.60, 0.25)),  # red and green
    ((0.15, 0.30, 0.90), (0.95, 0.85, 0.15)),  # blue and yellow
    ((0.75, 0.20, 0.75), (0.20, 0.75, 0.75)),  # magenta and cyan
)
EDGE = 3.0  # pixels; discs have soft edges so that filters do not respond to them


def orientation_pattern(size: int = 224) -> Tensor:
    """Return a test pattern of all orientations, many frequencies and main colours.

    On a grey background, it shows a zone plate, whose rings become finer outwards (up to 0.16
    cycles per pixel); around it a ring of all hues; on the right four gratings of 8 pixels per
    cycle that vary along 0, 45, 90 and 135 degrees; and at the bottom three discs of two opposite
    colours each. A filter that is selective for an orientation responds to two opposite sectors of
    the plate and to one grating; a filter that is selective for a colour, to a part of the ring.

    Args:
        size: side in pixels, at least 64.

    Returns:
        float32 (3,size,size) in [0, 1].

    Raises:
        InvalidTypeError: size is not an integer.
        InvalidValueError: size is less than 64, where the stripes would be indistinct.
    """
    check_int("size", size, 64)
    tile = size / 4
    image = torch.full((3, size, size), 0.5)
    dx, dy = _offsets(size, 1.5, 1.5)
    distance = torch.hypot(dx, dy)
    # The phase is pi f r^2 / R: its slope, the frequency, grows from 0 to f at the radius R.
    plate = _wave(MAX_FREQUENCY / 2 * distance.square() / (1.16 * tile))
    image = _blend(image, plate, _disc(distance, 1.16 * tile))
    # Three cosines a third of a turn apart sum to the grey of the background, so a filter with
    # equal weights for red, green and blue does not respond.
    hues = _wave(torch.atan2(dy, dx) / (2 * math.pi) - torch.arange(3).view(3, 1, 1) / 3)
    ring = _disc(distance, 1.42 * tile) * (1 - _disc(distance, 0.87 * 1.42 * tile))
    image = _blend(image, hues, ring)
    for row, degrees in enumerate(ORIENTATIONS):
        dx, dy = _offsets(size, 3.5, row + 0.5)
        angle = math.radians(degrees)
        grating = _wave(GRATING_FREQUENCY * (dx * math.cos(angle) + dy * math.sin(angle)))
        image = _blend(image, grating, _disc(torch.hypot(dx, dy), 0.42 * tile))
    for column, pair in enumerate(COLOUR_PAIRS):
        dx, dy = _offsets(size, column + 0.5, 3.5)
        left, right = torch.tensor(pair).view(2, 3, 1, 1)
        halves = torch.where(dx < 0, left, right)
        image = _blend(image, halves, _disc(torch.hypot(dx, dy), 0.42 * tile))
    return image.clamp(0, 1)


def _offsets(size: int, x: float, y: float) -> tuple[Tensor, Tensor]:
    """Return x and y in pixels from a point given in quarters of the size."""
    along = torch.arange(size, dtype=torch.float32) + 0.5
    dy, dx = torch.meshgrid(along - y * size / 4, along - x * size / 4, indexing="ij")
    return dx, dy


def _wave(cycles: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.cos(2 * math.pi * cycles)


def _disc(distance: Tensor, radius: float) -> Tensor:
    """Return 1 inside, 0 outside, and a smooth step in between."""
    inside = ((radius - distance) / EDGE).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def _blend(image: Tensor, pattern: Tensor, mask: Tensor) -> Tensor:
    return image + mask * (pattern - image)
