"""The progress bar of a training run, for terminals and notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable

from cifarzoo.device import is_interactive
from cifarzoo.record import Check

__all__ = ["ProgressBar"]

_SECONDS_BETWEEN_READINGS = 0.5
_SECONDS_BETWEEN_LINES = 10  # in a log file, where lines are not overwritten


class ProgressBar:
    """A progress bar with loss, accuracy and images per second.

    Reading a value waits for the device, so values are read at most twice a second, and never if
    the bar is not shown.
    """

    def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._interactive = is_interactive()
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            disable=not shown,
            unit="step",
            mininterval=0.1 if self._interactive else _SECONDS_BETWEEN_LINES,
        )
        self._speed = self._validation = ""
        self._images = 0
        self._last_reading = time.perf_counter()

    def step(self, images: int, figures: Callable[[], tuple[float, float]]) -> None:
        """Advance by one step over `images` images; `figures` returns loss and accuracy."""
        if self._bar.disable:
            return
        self._images += images
        self._bar.update()
        elapsed = time.perf_counter() - self._last_reading
        if elapsed >= _SECONDS_BETWEEN_READINGS:
            self._speed = f"{self._images / elapsed:,.0f} images/s"
            self._show(*figures(), refresh=self._interactive)

    def check(self, check: Check) -> None:
        """Show the results of a check; validation results stay until the next one."""
        if check.val_loss is not None and check.val_accuracy is not None:
            self._validation = f"validation {check.val_loss:.4f}, {check.val_accuracy:.1%}"
        self._show(check.train_loss, check.train_accuracy, refresh=True)

    def _show(self, loss: float, accuracy: float, *, refresh: bool) -> None:
        figures = (f"loss {loss:.4f}, accuracy {accuracy:.1%}", self._speed, self._validation)
        self._bar.set_postfix_str(" | ".join(filter(None, figures)), refresh=refresh)
        self._images, self._last_reading = 0, time.perf_counter()

    def close(self) -> None:
        """Close the bar and leave it on the screen."""
        self._bar.close()
