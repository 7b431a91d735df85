"""Image files of all kinds, whole and broken."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from cifarzoo.cli.pictures import read_picture
from cifarzoo.errors import OptionError

RED = (255, 0, 0)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def colour(path: Path) -> tuple[int, ...]:
    """The colour of a picture that has only one."""
    pixels = read_picture(path).pixels
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    values = pixels.flatten(1)
    assert int((values.amax(1) - values.amin(1)).max()) == 0
    return tuple(values[:, 0].tolist())


def test_image_of_32_pixels_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    picture = read_picture(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert np.array_equal(picture.pixels.permute(1, 2, 0).numpy(), pixels)
    assert picture.note == ""


def test_middle_of_a_wide_image_is_taken(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100))
    image.paste(RED, (100, 0, 200, 100))
    path = saved(image, tmp_path / "wide.png")
    assert colour(path) == RED
    assert "300×100" in read_picture(path).note
    assert "100×100" in read_picture(path).note


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (33, 32)])
def test_odd_sizes_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    assert colour(saved(Image.new("RGB", size, RED), tmp_path / "a.png")) == RED


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (40, 40), "white").convert(mode)
    path = saved(image, tmp_path / "a.tiff")
    try:
        with Image.open(path) as opened:
            opened.load()
    except OSError:
        pytest.skip(f"Pillow {PIL.__version__} cannot read what it wrote")
    assert colour(path) == (255, 255, 255)


def test_sixteen_bits_of_grey_are_not_clipped(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((32, 32), 128 * 256 + 7, np.uint16))
    assert colour(saved(image, tmp_path / "a.png")) == (128, 128, 128)


def test_transparent_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert colour(saved(image, tmp_path / "a.png")) == (255, 255, 255)
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([0, 0, 0, *RED])
    assert colour(saved(palette, tmp_path / "b.gif", transparency=0)) == (255, 255, 255)


def test_orientation_tag_is_followed(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste(RED, (0, 0, 16, 32))  # left half; turned a quarter clockwise it is the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_picture(saved(image, tmp_path / "a.png", exif=exif)).pixels
    assert pixels[0, :16].min() == 255
    assert pixels[0, 16:].max() == 0


def huge_png(path: Path, side: int) -> Path:
    """Write the start of an image that would take gigabytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("side", [10_500, 30_000])  # the second is more than Pillow itself opens
def test_huge_image_is_refused(tmp_path: Path, side: int) -> None:
    with pytest.raises(OptionError, match=r"huge\.png .*(pixels|large)"):
        read_picture(huge_png(tmp_path / "huge.png", side))


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png"):
        with pytest.raises(OptionError, match=f"{name} is not an image; allowed: .*PNG"):
            read_picture(tmp_path / name)
    with pytest.raises(OptionError, match="does not exist"):
        read_picture(tmp_path / "nope.png")
    with pytest.raises(OptionError, match="is a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.webp", "a.tiff"])
def test_truncated_image_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OptionError, match=name):
        read_picture(path)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((40, 40), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(OptionError, match=r"a\.tiff holds floating-point pixels.*8 bits"):
        read_picture(tmp_path / "a.tiff")


def test_formats_that_start_other_programs_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(Image.new("RGB", (40, 40)), tmp_path / "a.eps")
    Image.open(path).close()  # Pillow itself reads it

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    for name in ("a.eps", "a.png"):  # the content decides, not the name
        path = path.rename(tmp_path / name)
        with pytest.raises(OptionError, match="is not an image"):
            read_picture(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OptionError, match=r"a\.png is not a file"):
        read_picture(tmp_path / "a.png")
