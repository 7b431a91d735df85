"""The common corruptions, against scipy, Pillow and formulas."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from cifarzoo.data.shapes import load_shapes
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

NOT_GROWING = {  # in pixels: the published constants trade one part of these for another
    "glass_blur",
    "frost",
    "elastic_transform",
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return load_shapes(40, 1).train_images


def grey(value: int, n: int = 200) -> Tensor:
    return torch.full((n, 3, 32, 32), value, dtype=torch.uint8)


def distance(one: Tensor, other: Tensor) -> float:
    return (one.double() - other.double()).abs().mean().item()


def test_the_corruptions_are_the_fifteen_of_the_paper() -> None:
    noise = ("gaussian_noise", "shot_noise", "impulse_noise")
    blur = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
    weather = ("snow", "frost", "fog", "brightness")
    digital = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")
    assert (*noise, *blur, *weather, *digital) == CORRUPTIONS


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_are_changed_alike_in_every_batch(name: str, severity: int, images: Tensor) -> None:
    before = images.clone()
    found = corrupt(images, name, severity)
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert 0.5 < distance(found, images) < 90
    assert torch.equal(found, corrupt(images, name, severity))
    parts = [corrupt(part, name, severity) for part in torch.split(images, 7)]
    assert torch.equal(found, torch.cat(parts))
    assert torch.equal(found.flip(0), corrupt(images.flip(0), name, severity))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in NOT_GROWING])
def test_distance_grows_with_severity(name: str, images: Tensor) -> None:
    distances = [distance(corrupt(images, name, severity), images) for severity in SEVERITIES]
    assert distances == sorted(distances)


@pytest.mark.parametrize(
    "name",
    [
        *("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"),
        *("snow", "frost", "fog", "elastic_transform"),
    ],
)
def test_seed_determines_random_corruptions(name: str, images: Tensor) -> None:
    state = torch.get_rng_state()
    assert not torch.equal(corrupt(images, name, 3, seed=1), corrupt(images, name, 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("severity", "std"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_its_standard_deviation(severity: int, std: float) -> None:
    images = grey(128, 1).repeat(40, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(40)  # equal images get equal noise
    noise = (corrupt(images, "gaussian_noise", severity).double() / 255)[:, :, 1:]
    assert noise.std().item() == pytest.approx(std, rel=0.02)
    assert noise.mean().item() == pytest.approx(127.5 / 255, abs=1e-3)  # rounded down


@pytest.mark.parametrize(("severity", "photons"), [(1, 500), (5, 50)])
def test_shot_noise_has_the_variance_of_a_poisson_distribution(
    severity: int, photons: float
) -> None:
    found = corrupt(grey(102, 1), "shot_noise", severity).double() / 255
    assert found.std().item() == pytest.approx(math.sqrt(0.4 / photons), rel=0.05)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.07)])
def test_impulse_noise_sets_values_to_black_and_white(severity: int, share: float) -> None:
    images = grey(100, 1).repeat(30, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(30)
    found = corrupt(images, "impulse_noise", severity)[:, :, 1:]
    for value in (0, 255):
        assert (found == value).double().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert ((found == 100) | (found == 0) | (found == 255)).all()


def test_brightness_and_contrast_follow_their_formulas() -> None:
    image = grey(0, 1)
    image[0, :, :16] = torch.tensor([100, 50, 0], dtype=torch.uint8)[:, None, None]
    brighter = corrupt(image, "brightness", 4)[0, :, 0, 0]  # 0.2 = 51 steps of the value
    assert brighter.tolist() == [151, 75, 0]
    assert corrupt(image, "brightness", 4)[0, :, 31, 31].tolist() == [51, 51, 51]
    flatter = corrupt(image, "contrast", 5)[0]  # the channels' means are 50, 25 and 0
    assert flatter[:, 0, 0].tolist() == [57, 28, 0]  # 50 + 0.15 * 50, 25 + 0.15 * 25
    assert flatter[:, 31, 31].tolist() == [42, 21, 0]


def test_defocus_blur_is_a_disk() -> None:
    image = grey(0, 1)
    image[0, :, 16, 16] = 255
    found = corrupt(image, "defocus_blur", 5)[0, 0].double() / 255  # nine pixels; hardly smoothed
    assert found[15:18, 15:18].flatten().tolist() == pytest.approx([1 / 9] * 9, abs=1 / 255)
    assert found.count_nonzero() == 9
    ramp = torch.arange(32, dtype=torch.uint8).expand(1, 3, 32, 32) * 8
    assert distance(corrupt(ramp, "defocus_blur", 5)[..., 2:30], ramp[..., 2:30]) <= 1


def test_glass_blur_moves_pixels_by_one_at_most(images: Tensor) -> None:
    found, padded = corrupt(images, "glass_blur", 1), images  # its Gaussian is a single pixel
    inner = found[:, :, 2:, 2:]
    near = [
        padded[:, :, 2 - up : 32 - up, 2 - left : 32 - left] for up in (0, 1) for left in (0, 1)
    ]
    assert torch.stack([(inner == each).all(1) for each in near]).any(0).all()
    assert torch.equal(found[:, :, :2], images[:, :, :2])
    assert torch.equal(found[:, :, :, :2], images[:, :, :, :2])


def test_motion_blur_smears_a_point_along_a_line_to_one_side() -> None:
    image = grey(0, 1)
    image[0, :, 16, 24] = 255
    found = corrupt(image, "motion_blur", 5)[0, 0].double()
    weights = np.exp(-(np.arange(19.0) ** 2) / (2 * 2.5**2))
    expected = np.rint(255 * weights / weights.sum())
    columns = found.sum(0)[24 - np.arange(19)].numpy()
    assert columns == pytest.approx(expected[: len(columns)], abs=45)  # two steps may share one
    assert found.sum().item() == pytest.approx(expected.sum(), abs=1)
    assert found[:, 25:].count_nonzero() == 0
    assert found[16, 24].item() == expected[0]
    assert torch.equal(corrupt(grey(77, 1), "motion_blur", 5), grey(77, 1))


def test_zoom_blur_is_the_mean_of_scipys_zooms(images: Tensor) -> None:
    image = images[0].permute(1, 2, 0).numpy() / 255
    factors, total = np.arange(1, 1.26, 0.01), image.copy()
    for factor in factors:
        n = math.ceil(32 / factor)
        top = (32 - n) // 2
        large = ndimage.zoom(image[top : top + n, top : top + n], (factor, factor, 1), order=1)
        top = (len(large) - 32) // 2
        total += large[top : top + 32, top : top + 32]
    expected = np.floor(total / (len(factors) + 1) * 255)
    found = corrupt(images[:1], "zoom_blur", 5)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99


def test_fog_scales_by_the_brightest_pixel() -> None:
    black = corrupt(grey(0, 1), "fog", 5)
    assert black.max() == 0
    found = corrupt(grey(255, 1), "fog", 5).double() / 255  # (1 + 1.5 f) / (1 + 1.5), f in [0, 1]
    assert found.min().item() == pytest.approx(1 / 2.5, abs=1 / 255)
    assert found.max().item() == 1
    assert torch.equal(found[:, 0], found[:, 2])


def test_frost_and_snow_whiten_dark_images() -> None:
    dark = grey(20, 1)
    for name in ("frost", "snow"):
        assert corrupt(dark, name, 3).double().mean() > 30
    frost = corrupt(dark, "frost", 5).double().mean((2, 3))[0]
    assert frost[0] < frost[1] < frost[2]  # bluish


def test_elastic_transform_keeps_a_constant_image_and_moves_others(images: Tensor) -> None:
    assert distance(corrupt(grey(80, 1), "elastic_transform", 5), grey(80, 1)) <= 1
    ramp = (torch.arange(32, dtype=torch.uint8) * 8).expand(1, 3, 32, 32)
    moved = corrupt(ramp, "elastic_transform", 1).double() - ramp.double()
    # Corners move by up to 2.56 pixels, which extrapolates to the border; no other distortion.
    assert moved.abs()[..., 6:26, 6:26].max() < 8 * 10
    steps = corrupt(ramp, "elastic_transform", 1)[..., 10:22, 10:22].double().diff(dim=-1)
    assert (steps - steps.mean()).abs().max() <= 1  # the map of colours is affine


def test_pixelate_and_jpeg_are_pillows(images: Tensor) -> None:
    picture = Image.fromarray(images[3].permute(1, 2, 0).contiguous().numpy())
    small = picture.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    for name, expected in (("pixelate", small), ("jpeg_compression", Image.open(file))):
        found = corrupt(images[3:4], name, 5)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(found, np.asarray(expected))


def test_invalid_arguments_are_rejected(images: Tensor) -> None:
    with pytest.raises(InvalidValueError, match=r"unknown corruption 'frog', .* 'fog'"):
        corrupt(images, "frog", 1)
    for severity in (0, 6):
        with pytest.raises(InvalidValueError, match="severity"):
            corrupt(images, "fog", severity)
    with pytest.raises(InvalidValueError, match=r"torch.float32 .* expected uint8 \(N,3,32,32\)"):
        corrupt(images.float(), "fog", 1)
    with pytest.raises(InvalidValueError, match=r"\(40, 3, 32, 16\)"):
        corrupt(images[..., :16], "fog", 1)
    with pytest.raises(InvalidTypeError, match="images"):
        corrupt([1], "fog", 1)  # type: ignore[arg-type]
