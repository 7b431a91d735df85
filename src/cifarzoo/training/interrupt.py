"""Deferral of Ctrl-C and SIGTERM, on Windows Ctrl-Break, until a training step has finished."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupt", "deferred_interrupt"]


class Interrupt:
    """Whether one of the signals arrived."""

    pending = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Record Ctrl-C and SIGTERM; a second Ctrl-C interrupts at once.

    Windows has Ctrl-Break, which another process can send, in place of SIGTERM, which none can.
    Only Python's default handlers are replaced, and only in the main thread, where Python handles
    signals. A signal that is ignored (`nohup`) or has a handler of its own is left alone.
    """
    interrupt, process = Interrupt(), os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a child process that was forked within the block
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if number == signal.SIGINT and interrupt.pending:
            raise KeyboardInterrupt
        interrupt.pending = True

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            defaults = [
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
            ]
            if hasattr(signal, "SIGBREAK"):
                defaults.append((signal.SIGBREAK, signal.SIG_DFL))
            for number, default in defaults:
                if signal.getsignal(number) == default:
                    stack.callback(signal.signal, number, signal.signal(number, handle))
        yield interrupt
