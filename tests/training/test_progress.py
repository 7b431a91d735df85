from __future__ import annotations

from contextlib import closing

import pytest

from cifarzoo import Check
from cifarzoo.training import progress
from cifarzoo.training.progress import ProgressBar, ProgressLines, show_progress

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
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def _unread() -> tuple[float, float]:
    raise AssertionError("reading waits for the device")


def test_bar_shows_loss_accuracy_speed_and_validation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READINGS", 0)
    with closing(ProgressBar(total_steps=4, first_step=1, shown=True)) as bar:
        bar.check(CHECK)
        bar.step(64, lambda: (0.75, 0.625))
    out, shown = capsys.readouterr()
    assert not out
    assert "loss 1.2500, accuracy 50.0%" in shown
    last = shown[shown.index("loss 0.7500") :]
    for value in ("accuracy 62.5%", "images/s", "validation 1.7500, 37.5%", "2/4"):
        assert value in last


def test_values_are_read_at_most_twice_a_second_and_never_for_a_hidden_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ProgressBar(total_steps=4, first_step=0, shown=True)) as bar:
        bar.step(64, _unread)
    capsys.readouterr()
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_READINGS", 0)
    with closing(ProgressBar(total_steps=4, first_step=0, shown=False)) as bar:
        bar.step(64, _unread)
        bar.check(CHECK)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("interactive", "shown", "kind"),
    [(True, True, ProgressBar), (False, True, ProgressLines), (False, False, ProgressBar)],
)
def test_log_files_get_lines(
    monkeypatch: pytest.MonkeyPatch, interactive: bool, shown: bool, kind: type
) -> None:
    monkeypatch.setattr(progress, "is_interactive", lambda: interactive)
    with closing(show_progress(total_steps=9, first_step=0, steps_per_epoch=3, shown=shown)) as it:
        assert type(it) is kind


def test_lines_are_a_minute_apart_and_say_how_long_the_run_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    lines = ProgressLines(total_steps=1000, first_step=100, steps_per_epoch=50)
    for _ in range(40):  # 200 seconds, 5 seconds and 64 images a step
        now += 5
        lines.step(64, lambda: (0.75, 0.625))
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "epoch 2.24, step 112 of 1,000: loss 0.7500, accuracy 62.50%, 13 images/s, 1:14:00 left",
        "epoch 2.48, step 124 of 1,000: loss 0.7500, accuracy 62.50%, 13 images/s, 1:13:00 left",
        "epoch 2.72, step 136 of 1,000: loss 0.7500, accuracy 62.50%, 13 images/s, 1:12:00 left",
    ]
    lines.check(CHECK)
    assert capsys.readouterr().err == (
        "epoch 0.50: training 1.2500 50.00%, validation 1.7500 37.50%, 2.0 s\n"
    )
    now += 59
    lines.step(64, _unread)
    assert not capsys.readouterr().err
