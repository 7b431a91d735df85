"""Callbacks: objects that observe a training run."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from typing_extensions import override

from cifarzoo.errors import MissingExtraError
from cifarzoo.recipe import Recipe
from cifarzoo.record import Check, History

__all__ = ["Callback", "TensorBoardCallback"]


class Callback:
    """Base class of callbacks; override the methods you need.

    A callback observes a run. Anything that changes the result belongs in the recipe.
    """

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        """Run before the first step, also when a run resumes."""

    def on_check(self, check: Check) -> None:
        """Run after every check."""

    def on_end(self, history: History) -> None:
        """Run at the end, even after an error; the model is in its final state."""


class TensorBoardCallback(Callback):
    """Write losses, accuracies and the learning rate for TensorBoard.

    Args:
        folder: folder for the event files; created if missing.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError as error:
            raise MissingExtraError(
                "TensorBoardCallback needs tensorboard: pip install tensorboard"
            ) from error
        self._writer = tensorboard.SummaryWriter(str(folder))

    @override
    def on_check(self, check: Check) -> None:
        curves = {
            "loss/train": check.train_loss,
            "loss/validation": check.val_loss,
            "accuracy/train": check.train_accuracy,
            "accuracy/validation": check.val_accuracy,
            "lr": check.lr,
        }
        for name, value in curves.items():
            if value is not None:
                self._writer.add_scalar(name, value, check.step)
        self._writer.flush()

    @override
    def on_end(self, history: History) -> None:
        self._writer.close()
