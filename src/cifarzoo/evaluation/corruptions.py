"""The 15 common corruptions of CIFAR images at five severities, drawn by seeded batch code.

Source: Hendrycks and Dietterich, arXiv 1903.12261, with the constants for CIFAR of their script
`make_cifar_c.py`. The images are not those of the published CIFAR-10-C, which were drawn once from
other random numbers, and whose frost comes from photographs.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, InstanceOf
from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError, unknown
from cifarzoo.validation import PositiveInt, Seed, validate

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]

_Pixels: TypeAlias = NDArray[np.float64]  # (N,C,32,32) in [0, 1]
_Generators: TypeAlias = Sequence[np.random.Generator]  # one per image
_Severity = Annotated[PositiveInt, Field(le=5)]
_Number = TypeVar("_Number", bound=np.generic)

SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 32  # pixels; the constants are for this size
CHUNK = 500  # images computed together, in float64
LUMA: NDArray[np.float64] = np.array([0.299, 0.587, 0.114])
ICE: NDArray[np.float64] = np.array([0.78, 0.88, 1.0])  # colour of the frost


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Corrupt images in one of the 15 common ways of arXiv 1903.12261.

    The formulas and constants are those of the authors' script, including its glass blur, which
    copies pixels where the paper swaps them. Frost is the exception: it is drawn from two fractals
    in place of photographs. The random numbers of an image depend on the seed and its pixels alone,
    so the result is the same in any batch.

    Call these images "common corruptions (drawn by cifarzoo)": they are not the published
    CIFAR-10-C, and accuracies on the two differ.

    Args:
        images: uint8 (N,3,32,32).
        name: one of `CORRUPTIONS`: "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur",
            "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness",
            "contrast", "elastic_transform", "pixelate" or "jpeg_compression".
        severity: 1 to 5.
        seed: seed of the random numbers, 0 or more.

    Returns:
        uint8 (N,3,32,32), on the device of the images.

    Raises:
        InvalidTypeError: an argument has the wrong type.
        InvalidValueError: the images have another shape or dtype, or a value is not accepted.

    Example:
        >>> images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> corrupt(images, "fog", 5).shape
        torch.Size([8, 3, 32, 32])
    """
    validate("images", images, InstanceOf[Tensor])
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (3, SIDE, SIDE):
        raise InvalidValueError(
            f"images are {images.dtype} {tuple(images.shape)}: expected uint8 (N,3,32,32)"
        )
    if name not in _LEVELS:
        raise unknown("corruption", name, CORRUPTIONS)
    validate("severity", severity, _Severity)
    validate("seed", seed, Seed)
    function, levels = _LEVELS[name]
    constants = levels[severity - 1]
    constants = constants if isinstance(constants, tuple) else (constants,)
    corrupted = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].cpu().contiguous().numpy()
        generators = [_generator(image, seed) for image in part]
        corrupted[start : start + CHUNK] = _to_bytes(function(part / 255, generators, *constants))
    return torch.from_numpy(corrupted).to(images.device)


def _generator(image: NDArray[np.uint8], seed: int) -> np.random.Generator:
    digest = hashlib.sha256(image.tobytes()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])


def _to_bytes(x: _Pixels) -> NDArray[np.uint8]:
    """Round down, as the published script does."""
    bytes_: NDArray[np.uint8] = (x.clip(0, 1) * 255).astype(np.uint8)
    return bytes_


def _draw(
    generators: _Generators, draw: Callable[[np.random.Generator], NDArray[_Number]]
) -> NDArray[_Number]:
    """Return draws of shape (N,...)."""
    return np.stack([draw(generator) for generator in generators])


def _uniform(generators: _Generators, low: float, high: float, shape: tuple[int, ...]) -> _Pixels:
    return _draw(generators, lambda each: each.uniform(low, high, shape))


def _gaussian_noise(x: _Pixels, generators: _Generators, std: float) -> _Pixels:
    return x + std * _draw(generators, lambda each: each.standard_normal(x.shape[1:]))


def _shot_noise(x: _Pixels, generators: _Generators, photons: float) -> _Pixels:
    counts = [each.poisson(image * photons) for each, image in zip(generators, x, strict=True)]
    return np.stack(counts) / photons


def _impulse_noise(x: _Pixels, generators: _Generators, share: float) -> _Pixels:
    place, kind = np.moveaxis(_draw(generators, lambda each: each.random((2, *x.shape[1:]))), 1, 0)
    return np.where(place < share, kind < 0.5, x)


def _blur(x: _Pixels, sigma: float) -> _Pixels:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")


def _defocus_blur(x: _Pixels, _: _Generators, radius: float, edge: float) -> _Pixels:
    from scipy.ndimage import correlate, gaussian_filter

    down, right = np.mgrid[-2:3, -2:3]
    disk = (down**2 + right**2 <= radius**2).astype(np.float64)
    kernel = gaussian_filter(disk / disk.sum(), edge, radius=1)
    return correlate(x, kernel[None, None], mode="mirror")


def _glass_blur(x: _Pixels, generators: _Generators, sigma: float, times: int) -> _Pixels:
    x = _to_bytes(_blur(x, sigma)) / 255
    image, place = np.arange(len(x))[:, None, None], np.arange(2, SIDE)
    for _ in range(times):  # each pixel takes the colour of one at most one up and to the left
        up, left = np.moveaxis(
            _draw(generators, lambda each: each.integers(2, size=(2, SIDE - 2, SIDE - 2))), 1, 0
        )
        moved = x[image, :, place[:, None] - up, place - left]
        x[:, :, 2:, 2:] = moved.transpose(0, 3, 1, 2)
    return _blur(x, sigma)


def _motion_blur(x: _Pixels, generators: _Generators, radius: int, sigma: float) -> _Pixels:
    return _smear(x, _uniform(generators, -45, 45, (1,)), radius, sigma)


def _smear(x: _Pixels, degrees: _Pixels, radius: int, sigma: float) -> _Pixels:
    """Average pixels along a line at `degrees` (N,1), with the weights of half a Gaussian.

    Source: `MotionBlurImage` in ImageMagick's effect.c.
    """
    distance, place = np.arange(2 * radius + 1), np.arange(SIDE)
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    angle, image = np.radians(degrees), np.arange(len(x))[:, None, None]
    down, right = (
        np.ceil(distance * way - 0.5).astype(np.int64) for way in (np.sin(angle), np.cos(angle))
    )
    total = np.zeros((len(x), SIDE, SIDE, x.shape[1]))
    for i, weight in enumerate(weights / weights.sum()):
        rows = (place + down[:, i, None]).clip(0, SIDE - 1)
        columns = (place + right[:, i, None]).clip(0, SIDE - 1)
        total += weight * x[image, :, rows[:, :, None], columns[:, None, :]]
    return np.rint(total.transpose(0, 3, 1, 2) * 255) / 255


def _zoom(factor: float) -> _Pixels:
    """Return the matrix (32,32) that magnifies the middle of a column of pixels."""
    from scipy.ndimage import zoom

    n = math.ceil(SIDE / factor)
    top = (SIDE - n) // 2
    matrix = zoom(np.eye(SIDE)[top : top + n], (factor, 1), order=1)
    trimmed = (len(matrix) - SIDE) // 2
    return matrix[trimmed : trimmed + SIDE]


def _zoom_blur(x: _Pixels, _: _Generators, stop: float) -> _Pixels:
    matrices = [_zoom(factor) for factor in np.arange(1, stop, 0.01)]
    return (x + sum(each @ x @ each.T for each in matrices)) / (len(matrices) + 1)


def _snow(
    x: _Pixels,
    generators: _Generators,
    mean: float,
    std: float,
    size: float,
    threshold: float,
    radius: int,
    sigma: float,
    kept: float,
) -> _Pixels:
    flakes = mean + std * _draw(generators, lambda each: each.standard_normal((1, SIDE, SIDE)))
    flakes = _zoom(size) @ flakes @ _zoom(size).T
    flakes = _to_bytes(np.where(flakes < threshold, 0, flakes)) / 255
    degrees = _uniform(generators, -135, -45, (1,))
    flakes = _smear(flakes, degrees, radius, sigma)
    grey = np.tensordot(LUMA, x, (0, 1))[:, None]
    whitened = kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5)
    return whitened + flakes + flakes[:, :, ::-1, ::-1]


def _frost(x: _Pixels, generators: _Generators, kept: float, strength: float) -> _Pixels:
    """Add ice: sharp ridges of a rough fractal, thicker where a smooth one is high."""
    ridges = 1 - np.abs(2 * _plasma(generators, 1.3) - 1)
    ice: _Pixels = 0.15 + 0.85 * np.power(ridges, 3) * (0.4 + 0.6 * _plasma(generators, 2.5))
    return kept * x + strength * ice[:, None] * ICE[:, None, None]


def _fog(x: _Pixels, generators: _Generators, strength: float, decay: float) -> _Pixels:
    brightest: _Pixels = x.max((1, 2, 3), keepdims=True)
    foggy = x + strength * _plasma(generators, decay)[:, None]
    return foggy * brightest / (brightest + strength)


def _plasma(generators: _Generators, decay: float) -> _Pixels:
    """Return fractals (N,32,32) in [0, 1], by the diamond-square algorithm on a torus."""
    grid = np.zeros((len(generators), SIDE, SIDE))
    step, height = SIDE, 1.0
    while step > 1:
        n, half = SIDE // step, step // 2
        noise = _uniform(generators, -(height**2), height**2, (3, n, n))
        corners = grid[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        centres = (pairs + np.roll(pairs, -1, 2)) / 4 + noise[:, 0]
        across = corners + np.roll(corners, -1, 2) + centres + np.roll(centres, 1, 1)
        down = pairs + centres + np.roll(centres, 1, 2)
        grid[:, half::step, half::step] = centres
        grid[:, ::step, half::step] = across / 4 + noise[:, 1]
        grid[:, half::step, ::step] = down / 4 + noise[:, 2]
        step, height = half, height / decay
    grid -= grid.min((1, 2), keepdims=True)
    grid /= grid.max((1, 2), keepdims=True)
    return grid


def _brightness(x: _Pixels, _: _Generators, change: float) -> _Pixels:
    value: _Pixels = x.max(1, keepdims=True)  # of HSV; hue and saturation stay
    brighter = (value + change).clip(0, 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1 / 255), brighter)


def _contrast(x: _Pixels, _: _Generators, factor: float) -> _Pixels:
    mean: _Pixels = x.mean((2, 3), keepdims=True)
    return (x - mean) * factor + mean


def _elastic_transform(
    x: _Pixels, generators: _Generators, shift: float, smoothness: float, skew: float
) -> _Pixels:
    from scipy.ndimage import gaussian_filter

    corners = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])  # (x, y)
    moved = corners + skew * _uniform(generators, -1, 1, corners.shape)
    ones = np.ones((len(x), 3, 1))
    back = np.linalg.inv(np.concatenate([moved, ones], 2)) @ corners  # from new to old places
    down, right = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    places = np.stack([right, down, np.ones_like(down)], -1)  # (32,32,3)
    x = _sample(x, np.einsum("hwi,nij->nhwj", places, back), align_corners=True)
    drift = _uniform(generators, -1, 1, (2, SIDE, SIDE))
    sigmas = (0, 0, smoothness, smoothness)
    drift = shift * gaussian_filter(drift, sigmas, mode="reflect", truncate=3)
    return _sample(x, places[..., :2] + np.moveaxis(drift, 1, 3), align_corners=False)


def _sample(x: _Pixels, places: _Pixels, *, align_corners: bool) -> _Pixels:
    """Interpolate at places (N,32,32,2), x first, in pixels; images are mirrored at their border.

    Args:
        x: images.
        places: where to sample.
        align_corners: whether to mirror about the outermost pixels' centres or about their edges.
    """
    relative = places / (SIDE - 1) * 2 - 1 if align_corners else (2 * places + 1) / SIDE - 1
    sampled = nn.functional.grid_sample(
        torch.from_numpy(x),
        torch.from_numpy(relative),
        padding_mode="reflection",
        align_corners=align_corners,
    )
    return sampled.numpy()


def _pixelate(x: _Pixels, _: _Generators, share: float) -> _Pixels:
    from PIL.Image import Resampling

    side = int(SIDE * share)

    def resize(image: Image) -> Image:
        return image.resize((side, side), Resampling.BOX).resize((SIDE, SIDE), Resampling.BOX)

    return _with_pillow(x, resize)


def _jpeg_compression(x: _Pixels, _: _Generators, quality: int) -> _Pixels:
    import PIL.Image

    def compress(image: Image) -> Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return PIL.Image.open(file)

    return _with_pillow(x, compress)


def _with_pillow(x: _Pixels, change: Callable[[Image], Image]) -> _Pixels:
    import PIL.Image

    images = map(PIL.Image.fromarray, _to_bytes(x).transpose(0, 2, 3, 1))
    changed = np.stack([np.asarray(change(image)) for image in images])
    return changed.transpose(0, 3, 1, 2) / 255


_Constants: TypeAlias = float | tuple[float, ...]

_LEVELS: Mapping[str, tuple[Callable[..., _Pixels], tuple[_Constants, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (_glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": (_frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": (
        _elastic_transform,
        ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
    ),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
}

CORRUPTIONS = tuple(_LEVELS)
