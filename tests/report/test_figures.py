from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cifarzoo.report import figures
from cifarzoo.report.figures import page_pictures
from cifarzoo.report.filters import FILTER_FILES
from cifarzoo.report.folder import Results
from cifarzoo.report.pictures import Picture, png_of
from cifarzoo.report.record import Record
from cifarzoo.report.summary import summaries
from cifarzoo.training.history import Check, History

Make = Callable[..., Record]


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw, but do not render: what a picture holds is tested elsewhere."""

    def unrendered(figure: Figure, *, alt: str, caption: str) -> Picture:
        assert len(figure.axes) in (1, 2)
        return Picture(wide="", narrow="", width=1, height=1, alt=alt, caption=caption)

    monkeypatch.setattr(figures, "curves_picture", unrendered)


def drawn(folder: Path, *records: Record) -> dict[str, Picture]:
    return page_pictures(summaries(Results(records=records, failures=())), folder)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert drawn(tmp_path) == {}


def test_one_run_and_several_are_drawn(make_record: Make, tmp_path: Path) -> None:
    one = drawn(tmp_path, make_record())["2a"]
    assert one.caption.startswith("Baseline, seed 0. Training figures are means")
    several = drawn(tmp_path, make_record(seed=0), make_record(seed=1))["2a"]
    assert "seeds 0, 1; lines are means, bands one standard deviation" in several.caption


def test_alt_tells_the_course(make_record: Make, tmp_path: Path) -> None:
    alt = drawn(tmp_path, make_record())["2a"].alt
    assert "Training loss goes from 2.00 to 0.50" in alt
    assert "validation loss falls from 1.34 to 1.26" in alt
    assert "validation accuracy reaches 40.0 %" in alt


def test_better_model_is_chosen_by_the_validation_split(make_record: Make, tmp_path: Path) -> None:
    best_on_test = make_record("model2", accuracy=0.79)
    other = make_record("model1", accuracy=0.75)
    assert other.val is not None
    other = replace(other, val=replace(other.val, accuracy=0.95))
    assert drawn(tmp_path, best_on_test, other)["3b"].alt.startswith(
        "Curves of loss and accuracy of Model 1"
    )


def test_before_and_after_needs_both(make_record: Make, tmp_path: Path) -> None:
    after, before = make_record("model2"), make_record("model2_without_batch_norm")
    assert "3d" not in drawn(tmp_path, after)
    assert "without and with batch norm" in drawn(tmp_path, after, before)["3d"].alt


def test_gap_needs_a_validation_split(make_record: Make, tmp_path: Path) -> None:
    record = make_record("best")
    found = drawn(tmp_path, record)
    assert "3e-confusion" in found
    assert "-0.66 at the first check".replace("-", "−") in found["3f"].alt
    check = replace(record.history.checks[0], val_loss=None, val_accuracy=None)
    without = replace(record, history=one_check(check), val=None)
    assert "3f" not in drawn(tmp_path, without)


def one_check(check: Check) -> History:
    return History(
        checks=(check,), best_step=0, stopped="epochs", steps=check.step, images=8, seconds=1.0
    )


def test_filters_are_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "task4b.png").write_bytes(png_of(Figure(figsize=(2, 1))))
    found = drawn(tmp_path)
    assert list(found) == ["4b"]
    assert found["4b"].alt == FILTER_FILES["task4b.png"]
