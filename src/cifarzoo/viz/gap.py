"""Overfitting: the gap between validation and training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cifarzoo.errors import InvalidValueError
from cifarzoo.viz._curves import Runs, check_histories, draw_legend, draw_runs
from cifarzoo.viz._figure import new_figure, picture, style_step_axes
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_gap(histories: Runs | Mapping[str, Runs], *, title: str | None = None) -> Figure:
    """Draw the difference between validation and training loss by training step.

    It may start below zero: the training loss is the mean over the steps since the previous check,
    in training mode, while the validation loss is that of the weights at the check.

    Args:
        histories: a Run or a History, several (mean and standard deviation), or a mapping as in
            `plot_histories`.
        title: figure title; by default none.

    Returns:
        The figure, with one axis.

    Raises:
        InvalidTypeError: a value is neither a run nor a sequence of runs.
        InvalidValueError: there is no run, or a run has no check or no validation loss.
    """
    named = check_histories(histories if isinstance(histories, Mapping) else {"run": histories})
    figure = new_figure(6.5, 4.0, title)
    axis = figure.subplots()
    axis.axhline(0, color=palette().grey, linewidth=1)
    for series, (label, runs) in enumerate(named.items()):
        if any(check.val_loss is None for run in runs for check in run.checks):
            raise InvalidValueError(f"{label!r} has no validation loss: expected one at each check")
        draw_runs(axis, runs, lambda c: (c.val_loss or 0) - c.train_loss, series=series)
    style_step_axes(axis, y="validation loss − training loss (nats)")
    if isinstance(histories, Mapping):
        draw_legend(figure, named)
    return figure
