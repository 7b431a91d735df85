from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifarzoo.errors import OptionError
from cifarzoo.viz import orientation_pattern
from cifarzoo.viz.patterns import GRATING


@settings(deadline=None, max_examples=10)
@given(size=st.integers(64, 300))
def test_is_an_image(size: int) -> None:
    image = orientation_pattern(size)
    assert image.shape == (3, size, size)
    assert image.dtype == torch.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert torch.equal(image, orientation_pattern(size))


def test_the_default_is_what_imagenet_models_take() -> None:
    assert orientation_pattern().shape == (3, 224, 224)


@pytest.mark.parametrize(("row", "across"), [(0, (1, 0)), (1, (1, 1)), (2, (0, 1)), (3, (1, -1))])
def test_each_grating_changes_along_its_own_direction(row: int, across: tuple[int, int]) -> None:
    tile = orientation_pattern(224)[0, row * 56 : (row + 1) * 56, 168:] - 0.5
    spectrum = torch.fft.fft2(tile).abs()
    y, x = divmod(int(spectrum.argmax()), 56)
    frequencies = torch.fft.fftfreq(56)
    direction = torch.tensor([frequencies[x], frequencies[y]])
    expected = GRATING * torch.nn.functional.normalize(torch.tensor(across).float(), dim=0)
    # The two ends of the spectrum are one wave.
    distance = min((direction - expected).norm(), (direction + expected).norm())
    assert distance < 1 / 56


def test_the_plate_looks_the_same_from_every_side() -> None:
    plate = orientation_pattern(224)[:, 50:118, 50:118]  # about its centre
    torch.testing.assert_close(plate, plate.transpose(1, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(plate, plate.flip(2), atol=1e-4, rtol=0)
    assert torch.equal(plate[0], plate[1])


def test_the_ring_holds_all_hues_on_the_mean_of_the_background() -> None:
    image = orientation_pattern(224)
    ring = image[:, 84, 8:10]  # its left side
    torch.testing.assert_close(ring.mean(0), torch.full((2,), 0.5), atol=0.01, rtol=0)
    hues = image[:, 3:165, 3:165].flatten(1)
    colourful = hues[:, (hues.amax(0) - hues.amin(0)) > 0.5]
    assert set(colourful.argmax(0).tolist()) == {0, 1, 2}
    assert torch.equal(image[:, 0, 0], torch.full((3,), 0.5))


@pytest.mark.parametrize("size", [0, -5, 63])
def test_too_small(size: int) -> None:
    with pytest.raises(OptionError, match=f"size is {size}; allowed: whole numbers, 64 pixels"):
        orientation_pattern(size)
