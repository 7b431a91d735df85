from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cifarzoo.training.interrupt import deferred_interrupt


@pytest.fixture(autouse=True)
def _usual_handler() -> Iterator[None]:
    """A job in the background may have been started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_first_press_is_noted_and_the_second_interrupts() -> None:
    with deferred_interrupt() as interrupt:
        assert not interrupt.pending
        signal.raise_signal(signal.SIGINT)
        assert vars(interrupt) == {"pending": True}
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_wish_to_end_is_noted_and_never_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with deferred_interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.pending
        signal.raise_signal(signal.SIGINT)  # the first press
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before == signal.SIG_DFL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_was_forked_within_ends_at_once() -> None:
    with deferred_interrupt() as interrupt:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert not interrupt.pending


def test_another_handler_of_a_wish_to_end_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with deferred_interrupt() as interrupt:
            signal.raise_signal(signal.SIGTERM)
            assert not interrupt.pending
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_handler_is_put_back_whatever_happens() -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError

    signal.signal(signal.SIGINT, mine)
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGINT) is not mine
    assert signal.getsignal(signal.SIGINT) is mine
    with pytest.raises(ZeroDivisionError), deferred_interrupt():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is mine


def test_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert not interrupt.pending
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_other_threads_change_nothing() -> None:
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with deferred_interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.pending))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(handler, False)]
