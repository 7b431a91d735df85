"""Image files of any kind as the models take them: uint8 (3,32,32)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cifarzoo.errors import InvalidValueError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["FORMATS", "read_image"]

SIDE = 32  # pixels
MAX_PIXELS = 100_000_000
# Pillow supports more, but EPS starts another program, and rare formats are rarely tested.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def read_image(path: Path) -> Tensor:
    """Read an image file, crop its central square, and resize it to 32 pixels.

    The EXIF orientation is applied, and transparent pixels become white.

    Returns:
        uint8 (3,32,32), RGB.

    Raises:
        InvalidValueError: the file is missing, not an image in one of `FORMATS`, damaged, or too
            large.
    """
    import numpy as np
    import torch
    from PIL import Image

    image = _open(path)
    if image.mode == "F":
        raise InvalidValueError(f"{path} has floating-point pixels: expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    with warnings.catch_warnings(action="ignore"):  # about large images; `_open` checks the size
        square = image.convert("RGB").crop((left, top, left + side, top + side))
    small = square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def _open(path: Path) -> Image.Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():  # a pipe would block
        raise InvalidValueError(f"{path} is not a file: expected an image")
    Image.init()
    formats = [each for each in FORMATS if each in Image.OPEN]
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise InvalidValueError(f"{path} is not an image: expected {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise InvalidValueError(
            f"{path} is too large: expected at most {MAX_PIXELS:,} pixels"
        ) from None
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise InvalidValueError(f"{path} is truncated or damaged ({error})") from error
