from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cifarzoo import History
from cifarzoo.report.course import course_of
from cifarzoo.report.record import Record


@pytest.fixture
def history(make_record: Callable[..., Record]) -> History:
    return make_record().history


def test_figures_of_one_run(history: History) -> None:
    course = course_of([history])
    assert course is not None
    assert (course.train_first, course.train_last) == (2.0, 0.5)
    assert (course.val_first, course.val_lowest) == pytest.approx((1.34, 1.26))
    assert course.val_last == pytest.approx(1.34)
    assert course.val_accuracy == pytest.approx(0.4)


def test_runs_are_averaged_each_with_its_own_end(history: History) -> None:
    shorter = replace(history, checks=history.checks[:2])
    course = course_of([history, shorter])
    assert course is not None
    assert course.train_last == pytest.approx((0.5 + 1.0) / 2)
    assert course.val_last == pytest.approx((1.34 + 1.26) / 2)


def test_nothing_is_said_of_runs_without_validation(history: History) -> None:
    bare = replace(history, checks=(replace(history.checks[0], val_loss=None),))
    assert course_of([]) is None
    assert course_of([bare]) is None
    assert course_of([history, bare]) is None
