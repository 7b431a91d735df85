from __future__ import annotations

from dataclasses import replace

from cifarzoo import Check, History

CHECK = Check(
    step=3,
    epoch=0.5,
    train_loss=1.0,
    train_accuracy=0.5,
    val_loss=1.1,
    val_accuracy=0.4,
    lr=0.1,
    seconds=2.0,
)
CHECKS = (CHECK, replace(CHECK, step=6, val_loss=0.9), replace(CHECK, step=9))
HISTORY = History(checks=CHECKS, best_step=6, stopped="early", steps=9, images=90, seconds=4.5)


def test_best_is_the_check_whose_state_was_kept() -> None:
    assert HISTORY.best is CHECKS[1]


def test_run_that_ended_before_its_first_check_has_no_best() -> None:
    assert replace(HISTORY, checks=(), best_step=2).best is None


def test_speed_counts_images_over_all_the_time() -> None:
    assert HISTORY.images_per_second == 20
    assert replace(HISTORY, seconds=0.0).images_per_second == 0
