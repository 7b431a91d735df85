"""Which part of an image one place of a layer sees."""

from __future__ import annotations

from numbers import Integral

from torch import nn

from cifarzoo.arithmetic.dry_run import dry_run
from cifarzoo.errors import OptionError, ShapeError, suggest, wrong_kind

__all__ = ["receptive_area"]


def receptive_area(
    model: nn.Module,
    layer: str,
    position: tuple[int, int] | None = None,
    input_size: tuple[int, int, int] = (3, 32, 32),
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the rows and the columns of an image that one place of a layer's maps can depend on.

    Args:
        model: any module that takes one batch of images.
        layer: its name, as in `model.named_modules()`; of an `ImageClassifier` the leading
            "network." may be left out.
        position: row and column of the place on the layer's maps; None takes the middle one.
        input_size: of one image, (channels, height, width).

    Returns:
        (first row, last row + 1), (first column, last column + 1), in pixels from the image's
        upper left corner. What lies beyond the image is padding that the layers add. Near the
        border a layer may pad its maps where more of them could have been, and see less than
        this.

    Raises:
        OptionError: there is no such layer, it did not run, or the position is not on its maps.
        ShapeError: the layer does not give maps (N,C,H,W) that lie over the image like it, or the
            model does not take the input_size.

    Example:
        >>> receptive_area(nn.Conv2d(3, 8, 5, padding=2), "", (0, 10))
        ((-2, 3), (8, 13))
    """
    if not isinstance(model, nn.Module):
        raise wrong_kind("model", model, "a torch.nn.Module")
    seen = dry_run(model, input_size)
    layer = layer if layer in seen or f"network.{layer}" not in seen else f"network.{layer}"
    if layer not in seen:
        hint = suggest(layer, seen) or "; see model.named_modules()"
        raise OptionError(f"no layer {layer!r} ran{hint}")
    shape, field = seen[layer].output_shape, seen[layer].field
    if len(shape) != 3 or field is None:
        raise ShapeError(
            f"layer {layer!r} gives {shape} for one image; needed are maps (channels, height, "
            "width): choose a convolution, or a layer before the maps are flattened"
        )
    height, width = shape[1:]
    chosen: object = (height // 2, width // 2) if position is None else position
    if not isinstance(chosen, tuple | list) or len(chosen) != 2:
        raise OptionError(f"position is {chosen!r}; allowed: (row, column), or None")
    row, column = chosen
    whole = all(isinstance(each, Integral) for each in (row, column))
    if not (whole and 0 <= row < height and 0 <= column < width):
        raise OptionError(
            f"position is {position}; allowed: rows 0 to {height - 1}, columns 0 to {width - 1}"
        )
    area = field.area((row, column))
    if area is None:
        raise ShapeError(f"the maps of layer {layer!r} do not lie over the image as it does")
    rows, columns = area
    return rows, columns
