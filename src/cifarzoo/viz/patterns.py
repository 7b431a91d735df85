"""A test pattern that shows what a filter answers to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cifarzoo.spec import require_whole

__all__ = ["orientation_pattern"]

SMALLEST = 64
FINEST = 0.16  # cycles per pixel: a first layer of stride 2 gives maps with 3 pixels per cycle
GRATING = 0.125  # cycles per pixel
ORIENTATIONS_DEGREES = (0, 45, 90, 135)
COLOUR_PAIRS = (
    ((0.85, 0.15, 0.15), (0.10, 0.60, 0.25)),  # red beside green
    ((0.15, 0.30, 0.90), (0.95, 0.85, 0.15)),  # blue beside yellow
    ((0.75, 0.20, 0.75), (0.20, 0.75, 0.75)),  # magenta beside cyan
)
DISC_EDGE_PIXELS = 3.0  # a soft edge, so that the outline of a disc is not an edge of its own


def orientation_pattern(size: int = 224) -> Tensor:
    """Draw a test pattern of every orientation, many frequencies and the main colours.

    On mid-grey stand a zone plate, whose stripes run in every direction and get finer outwards (up
    to 0.16 cycles per pixel); a ring of all hues around it; down the right side four gratings of
    8 pixels per cycle that change along 0, 45, 90 and 135 degrees, so that their stripes stand
    upright, rise to the right, lie flat and fall to the right; and along the bottom three discs,
    each of two opposite colours. A filter that answers to one orientation lights up two opposite
    sectors of the plate and one grating; one that answers to a colour lights up part of the ring.

    Args:
        size: side in pixels, 64 or more.

    Returns:
        image: float32 (3,size,size) in [0, 1].

    Raises:
        OptionError: size is under 64, where the stripes could not be told apart.
    """
    require_whole("size", size, SMALLEST, math.inf, f"{SMALLEST} pixels or more")
    image = torch.full((3, size, size), 0.5)
    tile = size / 4
    image = _over(image, *_zone_plate(size, centre=(1.5 * tile, 1.5 * tile), radius=1.16 * tile))
    image = _over(image, *_hue_ring(size, centre=(1.5 * tile, 1.5 * tile), radius=1.42 * tile))
    for row, degrees in enumerate(ORIENTATIONS_DEGREES):
        centre = (3.5 * tile, (row + 0.5) * tile)
        image = _over(image, *_grating(size, centre=centre, radius=0.42 * tile, degrees=degrees))
    for column, pair in enumerate(COLOUR_PAIRS):
        centre = ((column + 0.5) * tile, 3.5 * tile)
        image = _over(image, *_two_colours(size, centre=centre, radius=0.42 * tile, pair=pair))
    return image.clamp(0, 1)


def _over(image: Tensor, drawing: Tensor, mask: Tensor) -> Tensor:
    return image + mask * (drawing - image)


def _polar(size: int, centre: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Give x, y and distance in pixels from a centre (x, y), each (size,size)."""
    along = torch.arange(size, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(along - centre[1], along - centre[0], indexing="ij")
    return x, y, torch.hypot(x, y)


def _disc(distance: Tensor, radius: float) -> Tensor:
    """1 inside, 0 outside, a smooth step between."""
    inside = ((radius - distance) / DISC_EDGE_PIXELS).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def _zone_plate(size: int, *, centre: tuple[float, float], radius: float) -> tuple[Tensor, Tensor]:
    _, _, distance = _polar(size, centre)
    # The phase is pi f r^2 / R: its slope, the frequency, grows from 0 to f at the radius R.
    stripes = 0.5 + 0.5 * torch.cos(math.pi * FINEST * distance.square() / radius)
    return stripes, _disc(distance, radius)


def _hue_ring(size: int, *, centre: tuple[float, float], radius: float) -> tuple[Tensor, Tensor]:
    x, y, distance = _polar(size, centre)
    turns = torch.atan2(y, x) / (2 * math.pi)
    # Three cosines a third of a turn apart: their sum is that of the grey around them, so a filter
    # that weighs red, green and blue alike sees nothing.
    thirds = torch.tensor([0.0, 1 / 3, 2 / 3]).view(3, 1, 1)
    hues = 0.5 + 0.5 * torch.cos(2 * math.pi * (turns - thirds))
    return hues, _disc(distance, radius) * (1 - _disc(distance, 0.87 * radius))


def _grating(
    size: int, *, centre: tuple[float, float], radius: float, degrees: float
) -> tuple[Tensor, Tensor]:
    x, y, distance = _polar(size, centre)
    angle = math.radians(degrees)
    across = x * math.cos(angle) + y * math.sin(angle)
    return 0.5 + 0.5 * torch.cos(2 * math.pi * GRATING * across), _disc(distance, radius)


def _two_colours(
    size: int,
    *,
    centre: tuple[float, float],
    radius: float,
    pair: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> tuple[Tensor, Tensor]:
    x, _, distance = _polar(size, centre)
    left, right = (torch.tensor(colour).view(3, 1, 1) for colour in pair)
    return torch.where(x < 0, left, right), _disc(distance, radius)
