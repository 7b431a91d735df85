"""What a training run leaves behind: its checks, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cifarzoo.display import Display, Shown

__all__ = ["Check", "History", "StopReason"]

StopReason: TypeAlias = Literal["epochs", "early", "interrupted", "diverged", "failed"]

MOST_SHOWN = 20  # checks in a table
HEADER = (
    *("step", "epoch", "training loss", "training accuracy", "validation loss"),
    *("validation accuracy", "learning rate", "seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The state of a run at one check.

    Attributes:
        step: optimizer steps taken so far.
        epoch: passes over the training images so far, with its fraction.
        train_loss: mean cross-entropy in nats over the training images since the check before, as
            they were trained on.
        train_accuracy: likewise, in [0, 1].
        val_loss: in nats, over the whole validation split; None where there is none.
        val_accuracy: likewise, in [0, 1].
        lr: learning rate of the last step.
        seconds: wall-clock seconds of training and validating since the run began, stops not
            counted.
    """

    step: int
    epoch: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Shown):
    """How a training run went, check by check.

    Attributes:
        checks: in the order of their steps.
        best_step: step of the state that the model was left in.
        stopped: why the run ended: all epochs done, early stopping, Ctrl-C, a loss that is not
            finite, or another error.
        steps: optimizer steps taken.
        images: training images seen, each as often as it was seen.
        seconds: wall-clock seconds of training and validating, stops not counted.
    """

    checks: tuple[Check, ...]
    best_step: int
    stopped: StopReason
    steps: int
    images: int
    seconds: float

    @property
    def best(self) -> Check | None:
        """The check at `best_step`; None where none was made there, as after Ctrl-C."""
        return next((check for check in self.checks if check.step == self.best_step), None)

    @property
    def images_per_second(self) -> float:
        """Training images per second, validation included in the time."""
        return self.images / self.seconds if self.seconds else 0.0

    def _display(self) -> Display:
        every = -(-len(self.checks) // MOST_SHOWN)
        last = len(self.checks) - 1
        shown = [
            check
            for i, check in enumerate(self.checks)
            if i % max(1, every) == 0 or i == last or check.step == self.best_step
        ]
        note = f"{self.steps:,} steps, ended: {self.stopped}; kept: step {self.best_step:,} (*)"
        if len(shown) < len(self.checks):
            note += f"; {len(shown)} of {len(self.checks)} checks are shown"
        return Display(
            title="History",
            header=HEADER,
            rows=tuple(_cells(check, kept=check.step == self.best_step) for check in shown),
            numbers=HEADER,
            note=note,
        )


def _cells(check: Check, *, kept: bool) -> tuple[str, ...]:
    loss, accuracy = check.val_loss, check.val_accuracy
    return (
        f"{check.step:,}" + (" *" if kept else ""),
        f"{check.epoch:.4g}",
        f"{check.train_loss:.4f}",
        f"{check.train_accuracy:.2%}",
        "–" if loss is None else f"{loss:.4f}",
        "–" if accuracy is None else f"{accuracy:.2%}",
        f"{check.lr:.3g}",
        f"{check.seconds:.1f}",
    )
