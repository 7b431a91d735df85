"""Ctrl-C, and the system's wish that the process ends, between two steps instead of within one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


class Interrupt:
    """Whether Ctrl-C was pressed, or the process asked to end, since the block began."""

    def __init__(self) -> None:
        self.pending = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Note the first Ctrl-C for the block to act on; a second one interrupts at once.

    SIGTERM, which `kill`, Slurm and torchrun send, is noted as well, and never interrupts.

    Python handles signals in the main thread only; elsewhere nothing is changed. Nor is it where
    a signal is ignored, as Ctrl-C is under nohup, or handled by another program that Python runs
    in; nor where SIGTERM has a handler already.
    """
    interrupt = Interrupt()
    pressed, process = False, os.getpid()

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed or os.getpid() != process:
            raise KeyboardInterrupt
        pressed = interrupt.pending = True

    def note(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a child that was forked within the block ends at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        interrupt.pending = True

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
                stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, press))
            if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, note))
        yield interrupt
