"""What can look on while a model trains."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from torch import nn

from cifarzoo.errors import MissingExtraError
from cifarzoo.spec import Recipe
from cifarzoo.training.history import Check, History

__all__ = ["Callback", "TensorBoardCallback", "import_tensorboard"]


class Callback:
    """The moments of a run; override those that matter.

    A callback sees the run and does not steer it: what changes a result belongs in the recipe.
    """

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        """Before the first step, or before the first one after a resume.

        Args:
            model: that is trained; in training mode during the run.
            recipe: that it is trained by.
        """

    def on_check(self, check: Check) -> None:
        """After every check.

        Args:
            check: step, losses and accuracies.
        """

    def on_end(self, history: History) -> None:
        """At the end, whatever ended the run; the model is in the state that is kept.

        Args:
            history: every check, and why the run ended.
        """


def import_tensorboard() -> ModuleType:
    """Give torch's module of TensorBoard.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    try:
        from torch.utils import tensorboard
    except ImportError as error:
        raise MissingExtraError(
            "TensorBoardCallback needs tensorboard; pip install tensorboard"
        ) from error
    return tensorboard


class TensorBoardCallback(Callback):
    """Write a run's losses, accuracies and learning rate for TensorBoard.

    Args:
        folder: where the event files go; made if it is not there.

    Raises:
        MissingExtraError: tensorboard is not installed; `pip install tensorboard`.
    """

    def __init__(self, folder: str | Path) -> None:
        self._writer = import_tensorboard().SummaryWriter(str(folder))

    def on_check(self, check: Check) -> None:
        """Write one point of every curve, at the check's step.

        Args:
            check: step, losses and accuracies.
        """
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

    def on_end(self, history: History) -> None:
        """Close the event file.

        Args:
            history: is not looked at.
        """
        self._writer.close()
