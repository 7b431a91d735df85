"""Several training runs in one figure: before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cifarzoo.viz import _style
from cifarzoo.viz._series import Runs, curve, draw_curve, legend_entries, named_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cifarzoo.training.history import History

__all__ = ["plot_histories"]


def plot_histories(histories: Mapping[str, Runs], *, title: str | None = None) -> Figure:
    """Draw several runs over each other, such as before and after a change.

    Training loss is dashed, validation loss solid. Several runs under one label, such as seeds,
    are drawn as their mean with a band of one standard deviation, up to the step where the first
    of them stopped; thin lines show those that went on.

    Args:
        histories: a label to a History, or to several; drawn in their order.
        title: above the figure; None writes none.

    Returns:
        The figure: loss on the first axis, validation accuracy on the second.

    Raises:
        OptionError: there is nothing to draw, a value is not a History, or a run ended before its
            first check.
    """
    named = named_runs(histories)
    figure = _style.new_figure(9.5, 4.2, title=title)
    loss, accuracy = figure.subplots(1, 2)
    for position, runs in enumerate(named.values()):
        _draw_runs(loss, accuracy, runs, position)
    _style.dress_run(loss, y="loss (cross-entropy, nats)")
    _style.dress_run(accuracy, y="validation accuracy (%)")
    _style.legend_below(figure, *legend_entries(named, lines={"validation": "-", "training": "--"}))
    return figure


def _draw_runs(loss: Axes, accuracy: Axes, runs: tuple[History, ...], position: int) -> None:
    colour, marker = _style.series_colour(position), _style.series_marker(position)
    train, val = curve(runs, lambda c: c.train_loss), curve(runs, lambda c: c.val_loss)
    percent = curve(runs, lambda c: None if c.val_accuracy is None else 100 * c.val_accuracy)
    draw_curve(loss, train, colour=colour, marker=marker, line="--")
    draw_curve(loss, val, colour=colour, marker=marker)
    draw_curve(accuracy, percent, colour=colour, marker=marker)
