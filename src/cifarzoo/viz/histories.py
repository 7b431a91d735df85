"""Loss and accuracy of several training runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cifarzoo.viz._curves import Runs, check_histories, draw_legend, draw_runs
from cifarzoo.viz._figure import new_figure, picture, style_step_axes
from cifarzoo.viz.history import val_accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_histories(histories: Mapping[str, Runs], *, title: str | None = None) -> Figure:
    """Draw several runs in one figure, such as before and after a change.

    Training loss is dashed, validation loss solid. Several runs under one label, such as seeds, are
    drawn as their mean with a band of one standard deviation, up to the end of the shortest one;
    thin lines show the runs that continue.

    Args:
        histories: by label, a Run or a History, or a sequence of them; drawn in this order.
        title: figure title; by default none.

    Returns:
        The figure: loss on the first axis, validation accuracy on the second.

    Raises:
        InvalidTypeError: not a mapping, or a value is neither a run nor a sequence of runs.
        InvalidValueError: a label has no run, or a run ended before its first check.
    """
    named = check_histories(histories)
    figure = new_figure(9.5, 4.2, title)
    loss, accuracy = figure.subplots(1, 2)
    for series, runs in enumerate(named.values()):
        draw_runs(loss, runs, lambda c: c.train_loss, series=series, line="--")
        draw_runs(loss, runs, lambda c: c.val_loss, series=series)
        draw_runs(accuracy, runs, val_accuracy, series=series)
    style_step_axes(loss, y="loss (cross-entropy, nats)")
    style_step_axes(accuracy, y="validation accuracy (%)")
    draw_legend(figure, named, {"validation": "-", "training": "--"})
    return figure
