"""Images in files, arrays and memory as the models take them: (N,3,H,W)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import TypeIs

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.validation import ROUNDING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "SIDE", "Images", "is_images", "read_image", "to_tensor"]

SIDE = 32  # pixels
MAX_PIXELS = 100_000_000
# Pillow supports more, but EPS starts another program, and rare formats are rarely tested.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

Source: TypeAlias = "str | Path | Image.Image | NDArray[Any]"
Images: TypeAlias = "Tensor | Source | Sequence[Tensor | Source]"


def is_images(data: object) -> TypeIs[Images]:
    """Return whether data is one of the forms that `to_tensor` accepts."""
    from PIL import Image

    if isinstance(data, list | tuple) and data:
        is_image = data[0].ndim == 3 if isinstance(data[0], Tensor) else is_images(data[0])
        return is_image and not isinstance(data[0], list | tuple)
    return isinstance(data, Tensor | np.ndarray | str | Path | Image.Image)


def to_tensor(data: Images, *, side: int = SIDE) -> Tensor:
    """Convert an image or several to a tensor (N,3,H,W).

    Args:
        data: tensors (N,3,H,W) or (3,H,W), and arrays of that shape, keep their size. Files,
            PIL images and arrays (N,H,W,3), (H,W,3) or (H,W) are cropped and resized by
            `read_image`. A list may mix these forms.
        side: as in `read_image`.

    Raises:
        InvalidTypeError: an array has another dtype.
        InvalidValueError: a file is not an image, an array is outside [0, 1], or the images of a
            list have several shapes.
    """
    if isinstance(data, Tensor):
        return data[None] if data.ndim == 3 else data
    if isinstance(data, np.ndarray):
        return _from_array(data, side)
    if isinstance(data, str) or not isinstance(data, Sequence):
        return read_image(data, side=side)[None]
    parts = [to_tensor(image, side=side) for image in data]
    if len({part.dtype for part in parts}) > 1:
        parts = [part / 255 if part.dtype == torch.uint8 else part.float() for part in parts]
    shapes = sorted({tuple(part.shape[1:]) for part in parts})
    if len(shapes) > 1:
        raise InvalidValueError(f"images have shapes {shapes[0]} and {shapes[-1]}: expected one")
    return torch.cat(parts)


def _from_array(array: NDArray[Any], side: int) -> Tensor:
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise InvalidTypeError(f"images are {array.dtype}: expected uint8, or floats in [0, 1]")
    if array.ndim not in (2, 3, 4):
        raise InvalidValueError(
            f"images have shape {array.shape}: expected (H,W,3), (N,H,W,3) or (N,3,H,W)"
        )
    if not array.size:
        raise InvalidValueError(f"images have shape {array.shape}: expected at least one image")
    ends_in_channels = array.ndim > 2 and array.shape[-1] in (3, 4) and array.shape[-3] != 3
    fits = array.ndim > 2 and array.shape[-3:] == (side, side, 3)
    if array.ndim == 2 or (ends_in_channels and not fits):
        if array.dtype != np.uint8:
            low, high = array.min(initial=0), array.max(initial=0)
            if not -ROUNDING <= low <= high <= 1 + ROUNDING:
                raise InvalidValueError(f"images are in [{low:.4g}, {high:.4g}]: expected [0, 1]")
            array = (255 * array.clip(0, 1)).round().astype(np.uint8)
        several = array if array.ndim == 4 else [array]
        return torch.stack([read_image(image, side=side) for image in several])
    if ends_in_channels:
        array = np.moveaxis(array, -1, -3)
    tensor = torch.from_numpy(np.array(array, np.uint8 if array.dtype == np.uint8 else np.float32))
    return tensor[None] if tensor.ndim == 3 else tensor


def read_image(source: Source, *, side: int = SIDE) -> Tensor:
    """Crop the central square of an image and resize it.

    The EXIF orientation is applied, and transparent pixels become white.

    Args:
        source: a file, an image of Pillow, or an array, uint8 (H,W), (H,W,3) or (H,W,4).
        side: height and width of the result in pixels.

    Returns:
        uint8 (3,side,side), RGB.

    Raises:
        InvalidValueError: the file is missing, not an image in one of `FORMATS`, damaged, or too
            large.
    """
    from PIL import Image

    name = source if isinstance(source, str | Path) else f"the {type(source).__name__}"
    image = _open(source, name)
    if image.mode == "F":
        raise InvalidValueError(f"{name} has floating-point pixels: expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    size = min(image.size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    with warnings.catch_warnings(action="ignore"):  # about large images; `_open` checks the size
        square = image.convert("RGB").crop((left, top, left + size, top + size))
    small = square.resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def _open(source: Source, name: str | Path) -> Image.Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(source, str | Path) and not Path(source).is_file():  # a pipe would block
        raise InvalidValueError(f"{name} is not a file: expected an image")
    Image.init()
    formats = [each for each in FORMATS if each in Image.OPEN]
    try:
        with contextlib.ExitStack() as stack, warnings.catch_warnings(action="ignore"):
            if isinstance(source, np.ndarray):
                image = Image.fromarray(source)
            elif isinstance(source, Image.Image):
                image = source
            else:
                image = stack.enter_context(Image.open(source, formats=formats))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise InvalidValueError(f"{name} is not an image: expected {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise InvalidValueError(
            f"{name} is too large: expected at most {MAX_PIXELS:,} pixels"
        ) from None
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise InvalidValueError(f"{name} is truncated or damaged ({error})") from error
