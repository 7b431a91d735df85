from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifarzoo import OptionError, ResultsError
from cifarzoo.report.folder import (
    load_results,
    read_record,
    record_path,
    write_failure,
    write_record,
    write_text,
)
from cifarzoo.report.record import Failure, Record

Make = Callable[..., Record]


def test_record_comes_back_whole(make_record: Make, tmp_path: Path) -> None:
    record = make_record("best", 2)
    path = write_record(record, tmp_path)
    assert path == record_path(tmp_path, "best", 2) == tmp_path / "best-seed2.json"
    assert read_record(path) == record


def test_views_come_back_beside_the_single_view(make_record: Make, tmp_path: Path) -> None:
    single = make_record().test
    assert single is not None
    record = make_record(test_tta=replace(single, tta="flip_translate"))
    found = read_record(write_record(record, tmp_path))
    assert found == record
    assert found.test == single


def test_record_of_before_test_time_augmentation_is_read(make_record: Make, tmp_path: Path) -> None:
    path = write_record(make_record(), tmp_path)
    content = json.loads(path.read_text())
    del content["test_tta"]
    for split in ("train", "val", "test"):
        del content[split]["tta"]
    path.write_text(json.dumps(content))
    assert read_record(path) == make_record()


def test_history_comes_back_for_the_plots(make_record: Make, tmp_path: Path) -> None:
    record = make_record()
    found = read_record(write_record(record, tmp_path)).history
    assert found == record.history
    assert found.best is not None
    assert found.best.step == 20


def test_lists_of_numbers_stay_on_one_line(make_record: Make, tmp_path: Path) -> None:
    text = write_record(make_record(), tmp_path).read_text()
    assert '"interval": [' in text
    assert not [line for line in text.splitlines() if line.endswith('interval": [')]


def test_results_are_sorted_and_other_files_left_alone(make_record: Make, tmp_path: Path) -> None:
    for key, seed in (("model2", 0), ("baseline", 10), ("baseline", 2)):
        write_record(make_record(key, seed, date="2026-01-01T00:00:00+00:00"), tmp_path)
    (tmp_path / "throughput.json").write_text("[1, 2]")
    (tmp_path / ".checkpoints").mkdir()
    found = load_results(tmp_path)
    assert [(r.key, r.seed) for r in found.records] == [
        ("baseline", 2),
        ("baseline", 10),
        ("model2", 0),
    ]
    assert [record.seed for record in found.of("baseline")] == [2, 10]


def test_success_takes_the_note_of_a_failure_away(make_record: Make, tmp_path: Path) -> None:
    older = Failure(key="baseline", seed=0, error="no", date="2026-01-01T00:00:00+00:00")
    write_failure(older, tmp_path)
    write_failure(replace(older, seed=1, error="never", date="2026-01-02T00:00:00"), tmp_path)
    newest = load_results(tmp_path).failure_of("baseline")
    assert newest is not None
    assert newest.error == "never"
    write_record(make_record(seed=0), tmp_path)
    write_record(make_record(seed=1), tmp_path)
    assert load_results(tmp_path).failure_of("baseline") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99; this version of cifarzoo reads 1"),
        ({"seed": 3}, "the run of baseline with seed 3: rename it"),
        ({"seed": "zero"}, r"Expected `int`, got `str` - at `\$\.seed`"),
        ({"params": None}, r"Expected `int`, got `null` - at `\$\.params`"),
        ({"mode": "slow"}, r"'slow' - at `\$\.mode`"),
        ({"history": {}}, r"missing required field `checks` - at `\$\.history`"),
        ({"recipe": {"epochs": 0}}, "epochs is 0; allowed"),
    ],
)
def test_wrong_content_names_the_file_and_the_way_out(
    make_record: Make, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_record(make_record(), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ResultsError, match=message) as caught:
        load_results(tmp_path)
    assert str(path) in str(caught.value)
    assert "Delete it" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1', "[]", '{"schema": NaN}', "\udcff"])
def test_broken_json_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "baseline-seed0.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ResultsError, match=r"baseline-seed0\.json cannot be read as a result"):
        load_results(tmp_path)


def test_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"is not there; .*cifarzoo report --out"):
        load_results(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="is a file; needed is a folder"):
        load_results(tmp_path / "file")


def test_a_folder_in_the_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert not load_results("~/mine").records


@pytest.mark.parametrize(("folder", "shown"), [(None, "None"), ("x" * 5000, "5,000 characters")])
def test_a_folder_that_cannot_be_is_named(folder: str | None, shown: str) -> None:
    with pytest.raises(OptionError, match=f"folder is .*{shown}"):
        load_results(folder)  # type: ignore[arg-type]


def test_figure_that_is_not_finite_is_not_written(make_record: Make, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="not finite"):
        write_record(make_record(total_seconds=float("nan")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_text(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
