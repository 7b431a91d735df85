from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from cifarzoo.training.history import Check, History, StopReason


def _check(i: int, *, shift: float, validation: bool, loss: float | None) -> Check:
    val_loss = 0.8 + math.exp(-i) + 0.02 * i + shift
    return Check(
        step=100 * i,
        epoch=i / 2,
        train_loss=1.5 * math.exp(-i / 4) + shift if loss is None else loss,
        train_accuracy=1 - 0.6 * math.exp(-i / 4),
        val_loss=val_loss if validation else None,
        val_accuracy=1 - val_loss / 3 if validation else None,
        lr=0.05,
        seconds=10.0 * i,
    )


@pytest.fixture
def make_history() -> Callable[..., History]:
    """A run without chance: the n-th check at step 100 n, every loss raised by `shift`."""

    def make(
        checks: int = 8,
        *,
        shift: float = 0.0,
        stopped: StopReason = "early",
        validation: bool = True,
        last_loss: float | None = None,
    ) -> History:
        made = tuple(
            _check(i, shift=shift, validation=validation, loss=last_loss if i == checks else None)
            for i in range(1, checks + 1)
        )
        best = min(made, key=lambda c: c.val_loss or c.train_loss, default=None)
        return History(
            checks=made,
            best_step=0 if best is None else best.step,
            stopped=stopped,
            steps=100 * checks,
            images=6400 * checks,
            seconds=10.0 * checks,
        )

    return make


@pytest.fixture
def assert_fits() -> Callable[[Figure], None]:
    """Lay a figure out (a warning fails the test) and see that nothing is cut off at its edges."""

    def check(figure: Figure) -> None:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert box is not None
        assert box.x0 >= -0.01
        assert box.y0 >= -0.01
        assert box.x1 <= width + 0.01
        assert box.y1 <= height + 0.01

    return check
