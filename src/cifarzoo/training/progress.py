"""The progress bar of a training run, in a terminal or a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cifarzoo.hardware import is_watched
from cifarzoo.training.history import Check

__all__ = ["ProgressBar"]

_SECONDS_BETWEEN_READINGS = 0.5
_SECONDS_BETWEEN_LINES = 10  # of a log; in a terminal each is written over the one before


class ProgressBar:
    """Loss, accuracy and images per second while a model trains.

    The figures are tensors on the device; reading them makes the device wait, so they are read
    twice a second and not at every step.
    """

    def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._watched = is_watched()
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            disable=not shown,
            unit="step",
            leave=True,
            mininterval=0.1 if self._watched else _SECONDS_BETWEEN_LINES,
        )
        self._speed = self._validation = ""
        self._images = 0
        self._last_reading = time.perf_counter()

    def step(self, images: int, loss: Callable[[], float], accuracy: Callable[[], float]) -> None:
        """Count one step of so many images; the figures run since the last check."""
        if self._bar.disable:
            return
        self._images += images
        self._bar.update()
        now = time.perf_counter()
        if now - self._last_reading < _SECONDS_BETWEEN_READINGS:
            return
        speed = self._images / (now - self._last_reading)
        self._images, self._last_reading = 0, now
        self._speed = f"{speed:,.0f} images/s"
        self._show(loss(), accuracy(), refresh=self._watched)

    def check(self, check: Check) -> None:
        """Show the figures of a check; its validation figures stay until the next one."""
        if check.val_loss is not None and check.val_accuracy is not None:
            self._validation = f"validation {check.val_loss:.4f}, {check.val_accuracy:.1%}"
        self._show(check.train_loss, check.train_accuracy, refresh=True)
        self._images, self._last_reading = 0, time.perf_counter()

    def _show(self, loss: float, accuracy: float, *, refresh: bool) -> None:
        figures = (f"loss {loss:.4f}, accuracy {accuracy:.1%}", self._speed, self._validation)
        self._bar.set_postfix_str(" | ".join(filter(None, figures)), refresh=refresh)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
