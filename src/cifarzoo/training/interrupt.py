"""Ctrl-C between two steps instead of in the middle of one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


class Interrupt:
    """Whether Ctrl-C was pressed since the block began."""

    def __init__(self) -> None:
        self.pending = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Note the first Ctrl-C for the block to act on; a second one interrupts at once.

    Python handles signals in the main thread only; elsewhere nothing is changed. Nor is it where
    Ctrl-C is ignored, as under nohup, or handled by another program that Python runs in.
    """
    interrupt = Interrupt()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupt.pending:
            raise KeyboardInterrupt
        interrupt.pending = True

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
