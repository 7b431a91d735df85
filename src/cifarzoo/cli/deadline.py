"""A command that stops by itself after a time, for a machine that is lent for a while."""

from __future__ import annotations

import _thread
import contextlib
import math
import signal
import threading
from collections.abc import Iterator

import typer

from cifarzoo.cli.console import remark
from cifarzoo.errors import OptionError

__all__ = ["NOT_FINISHED", "stopping_after"]

NOT_FINISHED = 75  # exit code: EX_TEMPFAIL, try again


@contextlib.contextmanager
def stopping_after(minutes: float | None, *, quiet: bool = False) -> Iterator[None]:
    """Interrupt the block as Ctrl-C does when its time is up, and end the command.

    A training stops between two steps and writes its checkpoint. Where Ctrl-C is ignored, as
    under nohup, it is not while the block runs.

    Args:
        minutes: above 0; None never interrupts.
        quiet: whether to say nothing when the time is up.

    Raises:
        OptionError: minutes is not a positive number, or more than a timer takes.
        Exit: with code 75, when the time is up.
    """
    if minutes is None:
        yield
        return
    if not 0 < minutes < math.inf:
        raise OptionError(f"minutes is {minutes}; allowed: a positive number")
    longest = threading.TIMEOUT_MAX / 60
    if minutes > longest:
        raise OptionError(f"minutes is {minutes}; allowed: up to {longest:.0f}, or leave it out")
    is_up = threading.Event()

    def interrupt() -> None:
        is_up.set()
        _thread.interrupt_main()

    timer = threading.Timer(60 * minutes, interrupt)
    timer.daemon = True
    try:
        with _hearing_interrupts():
            timer.start()
            yield
    except (KeyboardInterrupt, typer.Exit):
        if not is_up.is_set():
            raise
        if not quiet:
            remark("not finished; the same command goes on (--minutes has to outlast its start)")
        raise typer.Exit(NOT_FINISHED) from None
    finally:
        timer.cancel()


@contextlib.contextmanager
def _hearing_interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before not in (signal.SIG_IGN, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
