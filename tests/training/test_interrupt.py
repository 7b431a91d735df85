from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cifarzoo.training.interrupt import deferred_interrupt


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """A background job may have been started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_first_ctrl_c_is_recorded_and_the_second_interrupts() -> None:
    with deferred_interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pending
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_is_recorded_and_never_interrupts() -> None:
    with deferred_interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.pending
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ctrl_break_of_windows_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, "SIGBREAK", None) or signal.SIGUSR1
    monkeypatch.setattr(signal, "SIGBREAK", number, raising=False)
    with deferred_interrupt() as interrupt:
        signal.raise_signal(number)
        assert interrupt.pending
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded")  # since Python 3.12
def test_sigterm_ends_a_child_process_forked_in_the_block() -> None:
    with deferred_interrupt() as interrupt:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert not interrupt.pending


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_custom_handlers_are_left_alone(number: signal.Signals) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda number, frame: seen.append(number))
    try:
        with deferred_interrupt() as interrupt:
            signal.raise_signal(number)
            assert not interrupt.pending
    finally:
        signal.signal(number, before)
    assert seen == [number]


def test_other_threads_leave_the_handlers_alone() -> None:
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with deferred_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]
