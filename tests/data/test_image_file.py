"""Image files of all kinds, intact and damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifarzoo.data.image_file import read_image
from cifarzoo.errors import InvalidValueError

RED = (255, 0, 0)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def colour(path: Path) -> tuple[int, ...]:
    """Return the colour of a uniform image."""
    pixels = read_image(path)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.uint8)
    assert torch.equal(pixels, pixels[:, :1, :1].expand(3, 32, 32))
    return tuple(pixels[:, 0, 0].tolist())


def test_image_of_32_pixels_is_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels)


def test_image_is_centre_cropped(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100))
    image.paste(RED, (100, 0, 200, 100))
    assert colour(saved(image, tmp_path / "wide.png")) == RED


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_and_sizes_are_converted(tmp_path: Path, mode: str) -> None:
    path = saved(Image.new("RGB", (1, 500), "white").convert(mode), tmp_path / "a.tiff")
    assert colour(path) == (255, 255, 255)


def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((32, 32), 128 * 256 + 7, np.uint16))
    assert colour(saved(image, tmp_path / "a.png")) == (128, 128, 128)


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert colour(saved(image, tmp_path / "a.png")) == (255, 255, 255)
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 0, 0, *RED])
    assert colour(saved(palette, tmp_path / "b.gif", transparency=0)) == (255, 255, 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste(RED, (0, 0, 16, 32))  # the left half; rotated clockwise, the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_image(saved(image, tmp_path / "a.png", exif=exif))
    assert pixels[0, :16].min() == 255
    assert pixels[0, 16:].max() == 0


@pytest.mark.parametrize(
    "limit", ["cifarzoo.data.image_file.MAX_PIXELS", "PIL.Image.MAX_IMAGE_PIXELS"]
)
def test_huge_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    path = saved(Image.new("RGB", (40, 40)), tmp_path / "huge.png")
    monkeypatch.setattr(limit, 40)
    with pytest.raises(InvalidValueError, match=r"huge\.png is too large: expected at most"):
        read_image(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    saved(Image.new("RGB", (40, 40)), tmp_path / "a.eps").rename(tmp_path / "eps.png")
    for name in ("text.png", "empty.png", "eps.png"):  # EPS would start another program
        with pytest.raises(InvalidValueError, match=f"{name} is not an image: expected .*PNG"):
            read_image(tmp_path / name)
    Image.fromarray(np.ones((40, 40), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InvalidValueError, match="floating-point"):
        read_image(tmp_path / "float.tiff")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would block
    for name in ("missing.png", "pipe.png", "."):
        with pytest.raises(InvalidValueError, match="is not a file"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidValueError, match=path.name):
        read_image(path)
