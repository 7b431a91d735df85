"""What a training run leaves behind: its checks, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Check", "History", "StopReason"]

StopReason: TypeAlias = Literal["epochs", "early", "interrupted", "diverged", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The state of a run at one check.

    Attributes:
        step: optimizer steps taken so far.
        epoch: passes over the training images so far, with its fraction.
        train_loss: mean over the training images since the check before, as they were trained on.
        train_accuracy: likewise, in [0, 1].
        val_loss: over the whole validation split; None where there is none.
        val_accuracy: likewise, in [0, 1].
        lr: learning rate of the last step.
        seconds: of training and validating since the run began, stops not counted.
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
class History:
    """A training run.

    Attributes:
        checks: in the order of their steps.
        best_step: step of the state that the model was left in.
        stopped: why the run ended: all epochs done, early stopping, Ctrl-C, a loss that is not
            finite, or another error.
        steps: optimizer steps taken.
        images: training images seen, each as often as it was seen.
        seconds: of training and validating, stops not counted.
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
