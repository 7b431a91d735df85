"""One training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifarzoo.viz import _style
from cifarzoo.viz._series import curve, draw_curve, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cifarzoo.training.history import Check, History

__all__ = ["plot_history"]

ENDINGS = {
    "epochs": "all epochs done",
    "early": "stopped early",
    "interrupted": "interrupted",
    "diverged": "stopped: the loss is not finite",
    "failed": "stopped by an error",
}


def plot_history(history: History, *, title: str | None = None) -> Figure:
    """Draw loss and accuracy, of training and validation, against the training step.

    The check whose state the model was left in is marked. Training figures are means over the
    steps since the check before, measured while the model trained (dropout on).

    Args:
        history: what `fit` returns.
        title: above the figure; None says how the run ended.

    Returns:
        The figure: loss on the first axis, accuracy on the second.

    Raises:
        OptionError: history is not one History, or the run ended before its first check.
    """
    run = runs_of((history,), label="history")[0]
    ending = f"{run.steps:,} steps in {run.seconds:,.0f} s, {ENDINGS[run.stopped]}"
    figure = _style.new_figure(9.5, 4.0, title=ending if title is None else title)
    loss, accuracy = figure.subplots(1, 2)
    _draw_losses(loss, run)
    _draw_accuracies(accuracy, run)
    for axis in (loss, accuracy):
        _mark_best(axis, run.best)
    _style.legend_below(figure, *loss.get_legend_handles_labels())
    return figure


def _draw_losses(axis: Axes, run: History) -> None:
    train, val = curve([run], lambda c: c.train_loss), curve([run], lambda c: c.val_loss)
    draw_curve(axis, train, colour=_style.palette().blue, line="--", label="training")
    if len(val.steps):
        draw_curve(axis, val, colour=_style.palette().vermillion, label="validation")
    _style.dress_run(axis, y="loss (cross-entropy, nats)")


def _draw_accuracies(axis: Axes, run: History) -> None:
    train = curve([run], lambda c: 100 * c.train_accuracy)
    val = curve([run], lambda c: None if c.val_accuracy is None else 100 * c.val_accuracy)
    draw_curve(axis, train, colour=_style.palette().blue, line="--")
    if len(val.steps):
        draw_curve(axis, val, colour=_style.palette().vermillion)
    _style.dress_run(axis, y="accuracy (%)")


def _mark_best(axis: Axes, best: Check | None) -> None:
    if best is None:
        return
    text = f"kept: step {best.step:,}, epoch {best.epoch:.3g}"
    if best.val_loss is not None and best.val_accuracy is not None:
        text += f" (validation loss {best.val_loss:.3f}, accuracy {best.val_accuracy:.2%})"
    axis.axvline(
        best.step, color=_style.palette().grey, linewidth=1, linestyle=":", zorder=1, label=text
    )
