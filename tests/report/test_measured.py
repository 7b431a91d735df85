from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cifarzoo.report.folder import Results
from cifarzoo.report.measured import Measured, origins_of
from cifarzoo.report.measured import measured as measure
from cifarzoo.report.provenance import Source
from cifarzoo.report.record import Record
from cifarzoo.report.summary import summaries

Make = Callable[..., Record]


def measured(*records: Record) -> Measured:
    found = summaries(Results(records=records, failures=()))
    return measure(found["baseline"], origins_of(records))


def test_runs_of_one_machine_and_commit_share_a_letter(make_record: Make) -> None:
    (origin,) = origins_of([make_record(seed=1), make_record(seed=0)]).values()
    assert origin.letter == "A"
    assert origin.dates == "2026-01-01 to 2026-01-02"
    assert origin.source == "c0ffeec0ff"


def test_other_code_is_another_origin(make_record: Make) -> None:
    older, newer = make_record(seed=0), make_record(seed=1)
    newer = replace(newer, source=Source(commit=None, dirty=None, versions={"torch": "3"}))
    letters = [origin.letter for origin in origins_of([newer, older]).values()]
    assert letters == ["A", "B"]
    assert measured(older, newer).letters == "A, B"
    assert measured(newer).letters == "A"


def test_means_over_the_runs(make_record: Make) -> None:
    first = make_record(seed=0)
    second = make_record(
        seed=1, history=replace(first.history, seconds=8.0, stopped="epochs"), total_seconds=None
    )
    found = measured(first, second)
    assert found.seconds == pytest.approx(6.0)
    assert found.images_per_second == pytest.approx((640 + 320) / 2)
    assert found.total_seconds == pytest.approx(5.0)
    assert found.epochs == pytest.approx(2.0)
    assert found.endings == "all epochs, stopped early"
    assert measured(second).total_seconds is None
