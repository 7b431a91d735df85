"""A network as a row of boxes."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from cifarzoo.arithmetic import LayerRow, layer_table
from cifarzoo.viz._figure import NORMAL, SMALL, new_figure, picture
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 7
CELL_WIDTH, CELL_HEIGHT = 1.5, 2.4  # inches
MAX_WIDTH, MAX_HEIGHT, MIN_SIDE = 0.62, 0.95, 0.07  # sides of a box, in inches
SLANT = 0.22  # depth of a box relative to its height
BASE = 1.15  # inches from the bottom of a cell to its box
MAX_NAME, MAX_OTHERS = 20, 24  # characters per line
KINDS = {
    "BatchNorm2d": "batch norm",
    "BatchNorm1d": "batch norm",
    "Conv2d": "convolution",
    "MaxPool2d": "max pooling",
    "AvgPool2d": "average pooling",
    "AdaptiveAvgPool2d": "average pooling",
    "AdaptiveMaxPool2d": "max pooling",
    "Dropout": "dropout",
    "Flatten": "flatten",
    "Linear": "linear",
}


@dataclass(slots=True)
class _Box:
    """The input image or a layer, with the layers after it that keep its shape."""

    title: str
    kind: str
    shape: tuple[int, ...]
    params: int = 0
    others: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the lines of text below the box."""
        shape = "×".join(map(str, self.shape))
        if not self.kind:
            return [self.title, shape]
        name = self.title if len(self.title) <= MAX_NAME else "…" + self.title[1 - MAX_NAME :]
        params = f"{self.params:,} parameters" if self.params else "no parameters"
        lines = [name, KINDS.get(self.kind, self.kind), shape, params]
        others = "+ " + ", ".join(dict.fromkeys(self.others)) if self.others else ""
        return lines + textwrap.wrap(others, MAX_OTHERS, max_lines=2, placeholder=" …")

    def colour(self) -> str:
        """Return the colour for the kind of layer."""
        colours = palette()
        if not self.kind:
            return colours.grey
        if "Conv" in self.kind:
            return colours.blue
        return colours.vermillion if "Linear" in self.kind else colours.green


@picture
def plot_network(
    model: nn.Module, input_size: tuple[int, int, int] = (3, 32, 32), *, title: str | None = None
) -> Figure:
    """Draw a network as boxes, one for the output of each layer.

    The height of a box is the size of the maps, its width the number of channels, both on a
    logarithmic scale. The text below it states the layer, its output shape and its parameters,
    including those of the activations, normalisation and dropout that follow it. Layers are in the
    order in which they run; parallel branches follow one another.

    Args:
        model: any module that takes a batch of images.
        input_size: channels, height and width of one image.
        title: figure title; by default the numbers of parameters and multiply-accumulates.

    Returns:
        The figure, with one axis.

    Raises:
        InvalidTypeError, InvalidValueError: as in `layer_table`.
    """
    rows = layer_table(model, input_size)
    boxes = [_Box("image", "", tuple(input_size)), *_boxes(rows)]
    params, macs = sum(row.params for row in rows), sum(row.macs for row in rows)
    bands = math.ceil(len(boxes) / COLUMNS)
    columns = math.ceil(len(boxes) / bands)
    default = f"{params:,} parameters, {_rounded(macs)} multiply-accumulates per image"
    figure = new_figure(CELL_WIDTH * columns + 0.2, CELL_HEIGHT * bands + 0.1, title, default)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(0, CELL_WIDTH * columns)
    axis.set_ylim(-CELL_HEIGHT * bands, 0)
    axis.set_aspect("equal")
    most_channels = max(box.shape[0] for box in boxes)
    largest_side = max(max(box.shape[1:], default=1) for box in boxes)
    for i, box in enumerate(boxes):
        band, column = divmod(i, columns)
        x, y = CELL_WIDTH * (column + 0.5), BASE - CELL_HEIGHT * (band + 1)
        width = MAX_WIDTH * _log_share(box.shape[0], most_channels)
        height = MAX_HEIGHT * _log_share(max(box.shape[1:], default=1), largest_side)
        _draw_box(axis, box, x, y, max(MIN_SIDE, width), max(MIN_SIDE, height))
        if column:
            start, end = (x - CELL_WIDTH / 2 - 0.11, y + 0.4), (x - CELL_WIDTH / 2 + 0.11, y + 0.4)
            arrow = {"arrowstyle": "->", "color": palette().grey}
            axis.annotate("", xy=end, xytext=start, arrowprops=arrow)
    return figure


def _boxes(rows: tuple[LayerRow, ...]) -> list[_Box]:
    boxes: list[_Box] = []
    shape: tuple[int, ...] = ()
    for row in rows:
        if row.kind == "Preprocess":
            continue
        follows = not row.output_shape or (not row.macs and row.output_shape == shape)
        if follows and boxes:
            boxes[-1].others.append(KINDS.get(row.kind, row.kind))
        elif row.output_shape:
            name = row.name.removeprefix("network.") or row.kind
            boxes.append(_Box(name, row.kind, row.output_shape))
        if boxes:
            boxes[-1].params += row.params
        shape = row.output_shape or shape
    return boxes


def _log_share(value: int, largest: int) -> float:
    return math.log2(value + 1) / math.log2(largest + 1)


def _draw_box(axis: Axes, box: _Box, x: float, y: float, width: float, height: float) -> None:
    """Draw a box in perspective with text below; x is its centre, y its lower edge."""
    from matplotlib.patches import Polygon

    depth = SLANT * height if len(box.shape) == 3 else 0.04
    left, right = x - (width + depth) / 2, x + (width - depth) / 2
    top = y + height
    front = [(left, y), (right, y), (right, top), (left, top)]
    back = [(px + depth, py + depth) for px, py in front]
    lid, side = [front[3], front[2], back[2], back[3]], [front[1], back[1], back[2], front[2]]
    style = {"facecolor": box.colour(), "edgecolor": palette().background, "linewidth": 0.6}
    for corners, alpha in ((front, 0.85), (lid, 0.45), (side, 0.6)):
        axis.add_patch(Polygon(corners, alpha=alpha, **style))  # type: ignore[arg-type]
    for row, line in enumerate(box.lines()):
        text = axis.text(x, y - 0.1 - 0.165 * row, line, ha="center", va="top")
        text.set_fontsize(SMALL if row else NORMAL)
        if row > 2:
            text.set_color(palette().grey)


def _rounded(count: int) -> str:
    for unit, name in ((10**9, " billion"), (10**6, " million")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:,}"
