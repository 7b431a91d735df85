from __future__ import annotations

import math

import pytest
import torch

from cifarzoo.errors import InvalidValueError
from cifarzoo.viz import orientation_pattern
from cifarzoo.viz.patterns import GRATING_FREQUENCY


@pytest.mark.parametrize(("row", "across"), [(0, (1, 0)), (1, (1, 1)), (2, (0, 1)), (3, (1, -1))])
def test_each_grating_varies_along_its_direction(row: int, across: tuple[int, int]) -> None:
    tile = orientation_pattern(224)[0, row * 56 : (row + 1) * 56, 168:] - 0.5
    spectrum = torch.fft.fft2(tile).abs()
    y, x = divmod(int(spectrum.argmax()), 56)
    frequencies = torch.fft.fftfreq(56)
    direction = torch.tensor([frequencies[x], frequencies[y]])
    expected = GRATING_FREQUENCY * torch.tensor(across) / math.hypot(*across)
    # A wave has two peaks in the spectrum.
    distance = min((direction - expected).norm(), (direction + expected).norm())
    assert distance < 1 / 56


def test_the_zone_plate_is_symmetric() -> None:
    plate = orientation_pattern(224)[:, 50:118, 50:118]  # around its centre
    torch.testing.assert_close(plate, plate.transpose(1, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(plate, plate.flip(2), atol=1e-4, rtol=0)
    assert torch.equal(plate[0], plate[1])


@pytest.mark.parametrize("size", [0, 63])
def test_a_small_pattern_is_rejected(size: int) -> None:
    with pytest.raises(InvalidValueError, match=f"size is {size}"):
        orientation_pattern(size)
