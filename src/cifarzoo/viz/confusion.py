"""Which classes are taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cifarzoo.errors import OptionError, RangeError, ShapeError, one_of
from cifarzoo.viz import _style
from cifarzoo.viz._inputs import check_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from cifarzoo.evaluation.evaluate import Evaluation

__all__ = ["CellValue", "counts_of", "headline", "plot_confusion"]

CellValue: TypeAlias = Literal["count", "percent"]
MOST_WITH_NUMBERS = 25  # classes: in more, the numbers cannot be read


def plot_confusion(
    confusion: Tensor | Evaluation,
    class_names: Sequence[str] | None = None,
    *,
    values: CellValue = "count",
    title: str | None = None,
) -> Figure:
    """Draw a confusion matrix: a row per true class, a column per predicted one.

    Colours show the share of the true class, so classes of different sizes compare.

    Args:
        confusion: counts (K,K), rows are true classes; or what `evaluate` returns.
        class_names: K names; None writes the classes as numbers.
        values: what the cells say: "count", how many images, or "percent" of the row.
        title: above the figure; None writes the accuracy.

    Returns:
        The figure: the matrix on the first axis, its colour bar on the second.

    Raises:
        OptionError: there are not K names, values is unknown, or confusion is of another type.
        ShapeError: confusion is not square, or empty.
        RangeError: a count is negative or not finite.
    """
    if values not in get_args(CellValue):
        raise one_of("values", values, get_args(CellValue))
    counts = counts_of(confusion)
    names = check_names(class_names, len(counts))
    # A class without images has shares of zero, not 0/0.
    percents = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    side = max(4.5, 0.62 * len(names) + 1.2) if len(names) <= MOST_WITH_NUMBERS else 9.0
    figure = _style.new_figure(
        side + 0.7, side, title=headline(confusion, counts) if title is None else title
    )
    axis = figure.subplots()
    image = axis.imshow(percents, cmap=_shares(), vmin=0, vmax=100)
    bar = figure.colorbar(image, ax=axis, shrink=0.8, pad=0.02)
    _style.dress_bar(bar, "share of the true class (%)")
    _name_classes(axis, names)
    if len(names) <= MOST_WITH_NUMBERS:
        _write_cells(axis, counts if values == "count" else percents, percents, values)
    return figure


def counts_of(confusion: Tensor | Evaluation) -> NDArray[np.float64]:
    """Give a confusion matrix as float64 (K,K).

    Raises:
        OptionError: it is of another type.
        ShapeError: it is not square, or empty.
        RangeError: a count is negative or not finite.
    """
    tensor = confusion if isinstance(confusion, Tensor) else getattr(confusion, "confusion", None)
    if not isinstance(tensor, Tensor):
        raise OptionError(
            f"confusion is a {type(confusion).__name__}; needed is a tensor (K, K), or what "
            "evaluate returns"
        )
    shape = tuple(tensor.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise ShapeError(f"confusion has shape {shape}; needed is (K, K)")
    counts = np.asarray(tensor.detach().cpu().double().numpy(), dtype=np.float64)
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise RangeError(f"confusion holds {counts.min():g}; needed are counts, 0 or more")
    return counts


def headline(confusion: Tensor | Evaluation, counts: NDArray[np.float64]) -> str:
    """Say how accurate it is; with the interval where `evaluate` has given one."""
    total = counts.sum()
    if not total:
        return "no image counted"
    text = f"accuracy {np.trace(counts) / total:.2%} of {total:,.0f} images"
    if isinstance(confusion, Tensor):
        return text
    low, high = confusion.interval
    views = "" if confusion.tta == "none" else f" with {confusion.tta} test-time augmentation"
    return f"{text}{views} (95 % interval {low:.2%} to {high:.2%})"


def _shares() -> LinearSegmentedColormap:
    """Colours from the paper's to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = _style.palette()
    return LinearSegmentedColormap.from_list("shares", [colours.paper, colours.blue])


def _name_classes(axis: Axes, names: list[str]) -> None:
    axis.set_xlabel("predicted class", fontsize=_style.NORMAL)
    axis.set_ylabel("true class", fontsize=_style.NORMAL)
    # Names lean only where they would touch: a number or a short word stays level.
    lean = 40 if max(map(len, names)) > 4 else 0
    every = math.ceil(len(names) / MOST_WITH_NUMBERS)
    shown = range(0, len(names), every)
    axis.set_xticks(
        shown,
        names[::every],
        fontsize=_style.SMALL,
        rotation=lean,
        ha="right" if lean else "center",
        rotation_mode="anchor",
    )
    axis.set_yticks(shown, names[::every], fontsize=_style.SMALL)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _write_cells(
    axis: Axes, cells: NDArray[np.float64], percents: NDArray[np.float64], values: CellValue
) -> None:
    shares, grey = _shares(), _style.palette().grey
    for (row, column), value in np.ndenumerate(cells):
        axis.text(
            column,
            row,
            f"{value:.0f}" if values == "count" else f"{value:.1f}",
            ha="center",
            va="center",
            fontsize=_style.NORMAL if value < 10_000 else _style.SMALL,
            color=_style.ink_on(shares(percents[row, column] / 100)) if value else grey,
        )
