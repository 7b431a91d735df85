"""Overfitting, as the gap between the two losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cifarzoo.errors import OptionError
from cifarzoo.viz import _style
from cifarzoo.viz._series import Runs, curve, draw_curve, legend_entries, named_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cifarzoo.training.history import Check

__all__ = ["plot_gap"]


def plot_gap(histories: Runs | Mapping[str, Runs], *, title: str | None = None) -> Figure:
    """Draw how far the validation loss lies over the training loss, against the training step.

    The gap may begin below zero: the training loss is a mean over the steps before the check,
    measured with dropout on, while the validation loss is of the model as it then is.

    Args:
        histories: a History, several (mean and standard deviation), or a label to either.
        title: above the figure; None writes none.

    Returns:
        The figure, with one axis.

    Raises:
        OptionError: there is nothing to draw, a value is not a History, or a run has no
            validation loss.
    """
    named = named_runs(histories if isinstance(histories, Mapping) else {"run": histories})
    figure = _style.new_figure(6.5, 4.0, title=title)
    axis = figure.subplots()
    axis.axhline(0, color=_style.palette().grey, linewidth=1)
    for position, (label, runs) in enumerate(named.items()):
        if any(gap(check) is None for run in runs for check in run.checks):
            raise OptionError(
                f"{label!r} holds a check without validation loss, which the gap needs; "
                "fit with loaders that have a validation split"
            )
        colour, marker = _style.series_colour(position), _style.series_marker(position)
        draw_curve(axis, curve(runs, gap), colour=colour, marker=marker)
    _style.dress_run(axis, y="validation loss − training loss (nats)")
    if isinstance(histories, Mapping):
        _style.legend_below(figure, *legend_entries(named, lines={}))
    return figure


def gap(check: Check) -> float | None:
    """Validation loss less training loss, in nats; None without a validation loss."""
    return None if check.val_loss is None else check.val_loss - check.train_loss
