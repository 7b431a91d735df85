"""How training went, over several runs, in a few figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from cifarzoo.training.history import History

__all__ = ["Course", "course_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How training went, as means over the runs; losses in nats.

    Attributes:
        train_first: training loss at the first check.
        train_last: at the last.
        val_first: validation loss at the first check.
        val_lowest: where it was lowest.
        val_last: at the last check.
        val_accuracy: highest validation accuracy, in [0, 1].
    """

    train_first: float
    train_last: float
    val_first: float
    val_lowest: float
    val_last: float
    val_accuracy: float


class _Point(NamedTuple):
    train_loss: float
    val_loss: float
    val_accuracy: float


def _validated(history: History) -> list[_Point]:
    """Give the checks that have a validation loss."""
    return [
        _Point(check.train_loss, check.val_loss, check.val_accuracy)
        for check in history.checks
        if check.val_loss is not None and check.val_accuracy is not None
    ]


def course_of(histories: Sequence[History]) -> Course | None:
    """Sum up runs; None where there is none, or one without a validation split."""
    runs = [_validated(history) for history in histories]
    if not runs or not all(runs):
        return None

    def mean(pick: Callable[[list[_Point]], float]) -> float:
        return fmean(pick(run) for run in runs)

    return Course(
        train_first=mean(lambda run: run[0].train_loss),
        train_last=mean(lambda run: run[-1].train_loss),
        val_first=mean(lambda run: run[0].val_loss),
        val_lowest=mean(lambda run: min(point.val_loss for point in run)),
        val_last=mean(lambda run: run[-1].val_loss),
        val_accuracy=mean(lambda run: max(point.val_accuracy for point in run)),
    )
