"""A network, drawn as the maps that its layers make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from cifarzoo.arithmetic.cost import LayerCost, layer_table
from cifarzoo.errors import ShapeError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.viz import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_network"]

COLUMNS = 7
CELL_WIDTH, CELL_HEIGHT = 1.5, 2.4  # inches
TALLEST, WIDEST, SLIMMEST = 0.95, 0.62, 0.07  # of a box, in inches
SLANT = 0.22  # of a box's depth, drawn upwards to the right
BASE = 1.15  # inches from a cell's foot to its boxes
MOST_EXTRAS = 4  # names of further layers on one line


@dataclass(slots=True)
class _Block:
    """A layer that makes maps of another shape or learns, and those after it that do neither."""

    layer: LayerCost
    extras: list[str] = field(default_factory=list)
    params: int = 0
    macs: int = 0

    def take(self, row: LayerCost) -> None:
        """Count one more layer."""
        self.params += row.params
        self.macs += row.macs
        if row is not self.layer:
            self.extras.append(_short(row.kind))


def plot_network(
    model: nn.Module,
    input_size: tuple[int, int, int] = (3, 32, 32),
    *,
    title: str | None = None,
) -> Figure:
    """Draw a network as boxes, one for the maps that each of its layers makes.

    A box is as tall as the maps and as wide as there are channels, both on a logarithmic scale.
    Below it stand the layer, the shape of what it gives, and the parameters that it has;
    activations, norms and dropout are written at the layer that they follow, and counted with it.
    Layers stand in the order in which they run, row by row; where a network has branches, they
    follow each other.

    Args:
        model: any module that takes one batch of images.
        input_size: of one image, (channels, height, width).
        title: above the figure; None writes parameters and multiply-accumulates.

    Returns:
        The figure, with one axis.

    Raises:
        OptionError: not a module, scripted, or lazy layers that have no size yet.
        ShapeError: input_size is not that of an image, or the model cannot take it.
    """
    if len(tuple(input_size)) != 3:
        raise ShapeError(f"input_size is {input_size}; needed is (channels, height, width)")
    rows = layer_table(model, input_size)
    blocks = _blocks(rows)
    params, macs = (sum(getattr(row, name) for row in rows) for name in ("params", "macs"))
    text = f"{params:,} parameters, {_short_count(macs)} multiply-accumulates for one image"
    cells = len(blocks) + 1
    bands = math.ceil(cells / COLUMNS)
    columns = math.ceil(cells / bands)
    figure = _style.new_figure(
        CELL_WIDTH * columns + 0.2,
        CELL_HEIGHT * bands + 0.5,
        title=text if title is None else title,
    )
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(0, CELL_WIDTH * columns)
    axis.set_ylim(-CELL_HEIGHT * bands, 0)
    axis.set_aspect("equal")
    scale = _Scale.of([tuple(input_size), *(block.layer.output_shape for block in blocks)])
    name = "network." if isinstance(model, ImageClassifier) else ""
    for index in range(cells):
        band, column = divmod(index, columns)
        x, y = CELL_WIDTH * (column + 0.5), -CELL_HEIGHT * (band + 1)
        if index == 0:
            _draw_cell(axis, x, y, scale, tuple(input_size), ["image", _shape_text(input_size)])
        else:
            block = blocks[index - 1]
            lines = _lines(block, name)
            _draw_cell(axis, x, y, scale, block.layer.output_shape, lines, kind=block.layer.kind)
        if column:
            _draw_arrow(axis, x, y)
    return figure


def _blocks(rows: tuple[LayerCost, ...]) -> list[_Block]:
    blocks: list[_Block] = []
    shape: tuple[int, ...] = ()
    for row in rows:
        follows = bool(blocks) and row.output_shape == shape and _is_extra(row)
        if not follows and row.output_shape and not _is_preprocessing(row):
            blocks.append(_Block(row))
        if blocks:
            blocks[-1].take(row)
        shape = row.output_shape or shape
    return blocks


def _is_extra(row: LayerCost) -> bool:
    """Tell whether a layer only changes values: a norm, an activation, dropout."""
    return not row.macs


def _is_preprocessing(row: LayerCost) -> bool:
    return row.kind == "Preprocess"


@dataclass(frozen=True, slots=True)
class _Scale:
    """How large boxes are drawn: logarithmic, the largest as large as there is room."""

    side: int
    channels: int

    @classmethod
    def of(cls, shapes: list[tuple[int, ...]]) -> _Scale:
        sides = [max(shape[1:], default=1) for shape in shapes]
        return cls(side=max(sides), channels=max(shape[0] for shape in shapes))

    def box(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Give width and height in inches."""
        return (
            max(SLIMMEST, WIDEST * _share(shape[0], self.channels)),
            max(SLIMMEST, TALLEST * _share(max(shape[1:], default=1), self.side)),
        )


def _share(value: int, most: int) -> float:
    return math.log2(value + 1) / math.log2(most + 1)


def _draw_cell(
    axis: Axes,
    x: float,
    y: float,
    scale: _Scale,
    shape: tuple[int, ...],
    lines: list[str],
    *,
    kind: str = "",
) -> None:
    """Draw a box with text below it; x is the cell's middle, y its foot."""
    from matplotlib.patches import Polygon

    colour, edge = _colour(kind), _style.palette().paper
    width, height = scale.box(shape)
    depth = SLANT * height if len(shape) == 3 else 0.04
    left, foot = x - (width + depth) / 2, y + BASE
    right, top = left + width, foot + height
    front = [(left, foot), (right, foot), (right, top), (left, top)]
    back = [(px + depth, py + depth) for px, py in front]
    lid = [front[3], front[2], back[2], back[3]]
    side = [front[1], back[1], back[2], front[2]]
    for corners, alpha in ((front, 0.85), (lid, 0.45), (side, 0.6)):
        face = Polygon(corners, facecolor=colour, edgecolor=edge, alpha=alpha, linewidth=0.6)
        axis.add_patch(face)
    for row, line in enumerate(lines):
        axis.text(
            x,
            foot - 0.1 - 0.165 * row,
            line,
            ha="center",
            va="top",
            fontsize=_style.SMALL if row else _style.NORMAL,
            color=_style.palette().grey if row > 2 else None,
        )


def _draw_arrow(axis: Axes, x: float, y: float) -> None:
    middle = x - CELL_WIDTH / 2
    axis.annotate(
        "",
        xy=(middle + 0.11, y + BASE + 0.4),
        xytext=(middle - 0.11, y + BASE + 0.4),
        arrowprops={"arrowstyle": "->", "color": _style.palette().grey},
    )


def _colour(kind: str) -> str:
    colours = _style.palette()
    if not kind:
        return colours.grey
    if "Conv" in kind:
        return colours.blue
    if "Linear" in kind:
        return colours.vermillion
    return colours.more[0]


def _lines(block: _Block, prefix: str) -> list[str]:
    """Write what stands below a box."""
    row = block.layer
    params = f"{block.params:,} parameters" if block.params else "no parameters"
    name = _fitting_name(row.name.removeprefix(prefix)) or row.kind
    lines = [name, _short(row.kind), _shape_text(row.output_shape), params]
    extras = list(dict.fromkeys(block.extras))
    if extras:
        more = len(extras) - MOST_EXTRAS
        lines.append("+ " + ", ".join(extras[:2]))
        if len(extras) > 2:
            lines.append(", ".join(extras[2:MOST_EXTRAS]) + (f" and {more}" if more > 0 else ""))
    return lines


def _fitting_name(name: str) -> str:
    """Shorten a name to the width of a cell, from its front."""
    most = 20
    return name if len(name) <= most else "…" + name[1 - most :]


def _shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)


def _short(kind: str) -> str:
    """Shorten the name of a class."""
    names = {
        "BatchNorm2d": "batch norm",
        "BatchNorm1d": "batch norm",
        "Conv2d": "convolution",
        "MaxPool2d": "max pooling",
        "AvgPool2d": "mean pooling",
        "AdaptiveAvgPool2d": "mean pooling",
        "AdaptiveMaxPool2d": "max pooling",
        "Dropout": "dropout",
        "Flatten": "flatten",
        "Linear": "linear",
    }
    return names.get(kind, kind)


def _short_count(count: int) -> str:
    """Write a large count in millions or billions."""
    if count >= 10**9:
        return f"{count / 10**9:.3g} billion"
    return f"{count / 10**6:.3g} million" if count >= 10**6 else f"{count:,}"
