"""Loss and accuracy of one training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cifarzoo.record import Check
from cifarzoo.viz._curves import AnyRun, check_runs, draw_runs
from cifarzoo.viz._figure import legend_below, new_figure, picture, style_step_axes
from cifarzoo.viz.theme import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = {
    "epochs": "all epochs completed",
    "early": "stopped early",
    "interrupted": "interrupted",
    "diverged": "stopped: the loss was not finite",
    "failed": "stopped by an error",
}


@picture
def plot_history(history: AnyRun, *, title: str | None = None) -> Figure:
    """Draw training and validation loss and accuracy against the training step.

    The check whose weights were kept is marked. Training values are means over the steps since the
    previous check, in training mode and on augmented images.

    Args:
        history: a Run as returned by `train`, or a History as returned by `fit`.
        title: figure title; by default the steps, the time and how the run ended.

    Returns:
        The figure: loss on the first axis, accuracy on the second.

    Raises:
        InvalidTypeError: history is neither a Run nor a History.
        InvalidValueError: the run ended before its first check.
    """
    runs = (history,) = check_runs("history", [history])
    ending = f"{history.steps:,} steps in {history.seconds:,.0f} s, {ENDINGS[history.stopped]}"
    figure = new_figure(9.5, 3.6, title, ending)
    loss, accuracy = figure.subplots(1, 2)
    draw_runs(loss, runs, lambda c: c.train_loss, series=0, line="--", label="training")
    draw_runs(loss, runs, lambda c: c.val_loss, series=1, label="validation")
    draw_runs(accuracy, runs, lambda c: 100 * c.train_accuracy, series=0, line="--")
    draw_runs(accuracy, runs, val_accuracy, series=1)
    style_step_axes(loss, y="loss (cross-entropy, nats)")
    style_step_axes(accuracy, y="accuracy (%)")
    best, grey = history.best, palette().grey
    if best is not None:
        text = f"kept: step {best.step:,}, epoch {best.epoch:.3g}"
        if best.val_loss is not None and best.val_accuracy is not None:
            text += f" (validation loss {best.val_loss:.3f}, accuracy {best.val_accuracy:.2%})"
        for axis in (loss, accuracy):
            axis.axvline(best.step, color=grey, linewidth=1, linestyle=":", zorder=1, label=text)
    legend_below(figure, *loss.get_legend_handles_labels())
    return figure


def val_accuracy(check: Check) -> float | None:
    """Return the validation accuracy of a check in percent."""
    return None if check.val_accuracy is None else 100 * check.val_accuracy
