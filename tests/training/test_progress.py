from __future__ import annotations

from dataclasses import replace

import pytest

from cifarzoo import Check
from cifarzoo.training import progress
from cifarzoo.training.progress import ProgressBar

CHECK = Check(
    step=2,
    epoch=0.5,
    train_loss=1.25,
    train_accuracy=0.5,
    val_loss=1.75,
    val_accuracy=0.375,
    lr=0.1,
    seconds=2.0,
)


@pytest.fixture(autouse=True)
def _terminal_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow one cuts the figures off


def test_bar_shows_loss_accuracy_speed_and_validation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READINGS", 0)
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    with ProgressBar(total_steps=4, first_step=0, shown=True) as bar:
        bar.step(64, lambda: 2.5, lambda: 0.125)
        bar.check(CHECK)
        bar.step(64, lambda: 0.75, lambda: 0.625)
    out, shown = capsys.readouterr()
    assert not out
    for figure in ("loss 2.5000", "accuracy 12.5%", "images/s", "loss 1.2500", "accuracy 50.0%"):
        assert figure in shown
    last = shown[shown.index("loss 0.7500") :]
    assert "accuracy 62.5%" in last
    assert "validation 1.7500, 37.5%" in last
    assert "2/4" in last


def test_resumed_bar_begins_where_the_run_does(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(total_steps=4, first_step=3, shown=True):
        pass
    assert "3/4" in capsys.readouterr().err


def test_run_without_validation_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(total_steps=4, first_step=0, shown=True) as bar:
        bar.check(replace(CHECK, val_loss=None, val_accuracy=None))
    assert "validation" not in capsys.readouterr().err


def test_figures_are_read_seldom_for_reading_makes_a_gpu_wait() -> None:
    def read() -> float:
        raise AssertionError("read at once")

    with ProgressBar(total_steps=4, first_step=0, shown=True) as bar:
        bar.step(64, read, read)


def test_hidden_bar_says_and_reads_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> float:
        raise AssertionError("read although hidden")

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READINGS", 0)
    with ProgressBar(total_steps=4, first_step=0, shown=False) as bar:
        bar.step(64, read, read)
        bar.check(CHECK)
    assert capsys.readouterr() == ("", "")


def test_log_gets_the_checks_and_not_every_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READINGS", 0)
    with ProgressBar(total_steps=4, first_step=0, shown=True) as bar:
        for _ in range(3):
            bar.step(64, lambda: 2.5, lambda: 0.125)
        bar.check(CHECK)
    shown = capsys.readouterr().err
    assert shown.count("loss 2.5000") == 0
    assert shown.count("loss 1.2500") >= 1
