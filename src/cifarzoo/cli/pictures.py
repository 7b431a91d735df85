"""Image files from anywhere, as the models take them: uint8 (3,32,32)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifarzoo.errors import OptionError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["Picture", "read_picture"]

SIDE = 32  # pixels: what every model of the zoo was trained on
MOST_PIXELS = 100_000_000
# Not all that Pillow reads: for EPS it starts another program, and rare formats are rarely tested.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One image, ready for a model.

    Attributes:
        pixels: uint8 (3,32,32).
        note: what was done to fit it in; empty if nothing was lost but resolution.
    """

    pixels: Tensor
    note: str


def read_picture(path: Path) -> Picture:
    """Read an image file, take its central square, and make that 32 pixels wide.

    Its orientation tag is followed, and what is transparent becomes white.

    Args:
        path: of a file in one of `FORMATS`.

    Raises:
        OptionError: it is not there, is not an image, is damaged, or is too large.
    """
    import numpy as np
    import torch
    from PIL import Image

    image = _rgb(path, _opened(path))
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    note = ""
    if width != height:
        note = f"{width}×{height} pixels: only its central {side}×{side} are looked at"
        with warnings.catch_warnings(action="ignore"):  # of a great size, which was looked at
            image = image.crop((left, top, left + side, top + side))
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Picture(pixels=torch.from_numpy(np.array(small)).permute(2, 0, 1), note=note)


def _opened(path: Path) -> Image.Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if not path.exists():
            raise OptionError(f"{path} does not exist")
        if not path.is_file():
            raise OptionError(f"{path} is {'a folder' if path.is_dir() else 'not a file'}")
        # What it warns of, a great size, is refused here.
        with warnings.catch_warnings(action="ignore"), _open(path) as image:
            _require_small(path, image.size)
            return ImageOps.exif_transpose(image)
    except OptionError:
        raise
    except UnidentifiedImageError:
        raise OptionError(f"{path} is not an image; allowed: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise OptionError(
            f"{path} has more pixels than Pillow opens; allowed: {MOST_PIXELS:,}; make it smaller"
        ) from error
    except PermissionError as error:
        raise OptionError(f"{path} cannot be read ({error.strerror})") from error
    except Exception as error:  # readers raise whatever they stumble over in a damaged file
        raise OptionError(f"{path} is truncated or damaged ({error})") from error


def _open(path: Path) -> Image.Image:
    from PIL import Image

    Image.init()
    return Image.open(path, formats=[each for each in FORMATS if each in Image.OPEN])


def _require_small(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise OptionError(
            f"{path} has {width:,}×{height:,} pixels; allowed: {MOST_PIXELS:,}; make it smaller"
        )


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, over white where it is transparent."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise OptionError(
            f"{path} holds floating-point pixels, and no file tells their range; save it with 8 "
            "bits for each colour"
        )
    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bits of grey, which convert() clips
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
