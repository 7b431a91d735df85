"""The progress of a training run: a bar for terminals and notebooks, lines for log files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

from cifarzoo.device import is_interactive
from cifarzoo.record import Check

__all__ = ["Progress", "ProgressBar", "ProgressLines", "show_progress"]

_SECONDS_BETWEEN_READINGS = 0.5
_SECONDS_BETWEEN_LINES = 60


class ProgressBar:
    """A progress bar with loss, accuracy and images per second.

    Reading a value waits for the device, so values are read at most twice a second, and never if
    the bar is not shown.
    """

    def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total_steps, initial=first_step, disable=not shown, unit="step")
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
            self._show(*figures())

    def check(self, check: Check) -> None:
        """Show the results of a check; validation results stay until the next one."""
        if check.val_loss is not None and check.val_accuracy is not None:
            self._validation = f"validation {check.val_loss:.4f}, {check.val_accuracy:.1%}"
        self._show(check.train_loss, check.train_accuracy)

    def _show(self, loss: float, accuracy: float) -> None:
        figures = (f"loss {loss:.4f}, accuracy {accuracy:.1%}", self._speed, self._validation)
        self._bar.set_postfix_str(" | ".join(filter(None, figures)))
        self._images, self._last_reading = 0, time.perf_counter()

    def close(self) -> None:
        """Close the bar and leave it on the screen."""
        self._bar.close()


class ProgressLines:
    """A line per check, and one a minute in between."""

    def __init__(self, total_steps: int, first_step: int, steps_per_epoch: int) -> None:
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        self._first_step = self._step = first_step
        self._images = 0
        self._start = self._last_line = time.perf_counter()

    def step(self, images: int, figures: Callable[[], tuple[float, float]]) -> None:
        """Advance by one step over `images` images; `figures` returns loss and accuracy."""
        self._step += 1
        self._images += images
        now = time.perf_counter()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            from tqdm import tqdm

            loss, accuracy = figures()
            seconds_per_step = (now - self._start) / (self._step - self._first_step)
            left = tqdm.format_interval(seconds_per_step * (self._total_steps - self._step))
            self._write(
                f"epoch {self._step / self._steps_per_epoch:.2f}, step {self._step:,} of "
                f"{self._total_steps:,}: loss {loss:.4f}, accuracy {accuracy:.2%}, "
                f"{self._images / (now - self._last_line):,.0f} images/s, {left} left"
            )

    def check(self, check: Check) -> None:
        """Write the results of a check."""
        validation = ""
        if check.val_loss is not None and check.val_accuracy is not None:
            validation = f", validation {check.val_loss:.4f} {check.val_accuracy:.2%}"
        self._write(
            f"epoch {check.epoch:.2f}: training {check.train_loss:.4f} {check.train_accuracy:.2%}"
            f"{validation}, {check.seconds:.1f} s"
        )

    def _write(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        self._images, self._last_line = 0, time.perf_counter()

    def close(self) -> None:
        """Do nothing; every line is complete."""


Progress: TypeAlias = ProgressBar | ProgressLines


def show_progress(
    *, total_steps: int, first_step: int, steps_per_epoch: int, shown: bool
) -> Progress:
    """Return a bar (hidden if `shown` is False), or lines if stderr is a log file."""
    if shown and not is_interactive():
        return ProgressLines(total_steps, first_step, steps_per_epoch)
    return ProgressBar(total_steps=total_steps, first_step=first_step, shown=shown)
