"""The folders of `cifarzoo train`, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cifarzoo import ResultsError, compare
from cifarzoo.report import load_results, load_runs

SCORE = {"accuracy": 0.5, "interval": [0.4, 0.6], "loss": 1.0, "n": 10, "per_class": {}}
HISTORY = {"stopped": "epochs", "steps": 6, "seconds": 1.0, "best_step": 6, "checks": []}


def write(folder: Path, seed: int, accuracy: float = 0.5, **changes: object) -> Path:
    """Write what a run leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "finished": "2026-01-01 00:00 UTC",
        "settings": {"model": "m", "seed": seed, "recipe": {"lr": 0.1}},
        "environment": {},
        "scores": {"train": None, "test": {**SCORE, "accuracy": accuracy}},
        "history": HISTORY,
    }
    path = folder / "run.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_folders_of_several_seeds_are_what_compare_takes(tmp_path: Path) -> None:
    for seed in (10, 9):
        write(tmp_path / "a" / f"seed{seed}", seed, 0.8 + seed / 100)
        write(tmp_path / "b" / f"seed{seed}", seed, 0.7 + seed / 200)
    ours, theirs = load_runs(tmp_path / "a"), load_runs(str(tmp_path / "b"))
    assert [run.seed for run in ours] == [9, 10]
    assert ours[0].test is not None
    assert (ours[0].test.accuracy, ours[0].test.interval, ours[0].test.n) == (0.89, (0.4, 0.6), 10)
    assert ours[0].history.steps == 6
    found = compare(ours, theirs)
    assert found.test == "paired t-test"
    assert found.difference == pytest.approx(0.1475)


def test_one_run_is_read_from_its_own_folder(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (run,) = load_runs(tmp_path)
    assert (run.seed, run.settings["model"]) == (3, "m")
    for folder in (tmp_path, tmp_path.parent):
        with pytest.raises(ResultsError, match=r"leaves of runs; .*cifarzoo.report.load_runs\('"):
            load_results(folder)


def test_runs_of_two_recipes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", 0)
    write(tmp_path / "b", 1, settings={"model": "m", "seed": 1, "recipe": {"lr": 0.2}})
    with pytest.raises(
        ResultsError, match=r"more than their seed \(recipe.lr: 0.1 with seed 0, 0.2 w"
    ):
        load_runs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finished": None, "history": 1}, "not finished: its loss was not finite; take it out"),
        ({"scores": 1}, "cannot be read as the file of a run: .*--fresh"),
        ({"settings": {"model": "m"}}, "its seed is None; needed is a whole"),
        ({"settings": {"seed": True}}, "its seed is True"),
    ],
)
def test_what_is_not_a_finished_run_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path, 0, **changes)
    with pytest.raises(ResultsError, match=message):
        load_runs(tmp_path)


def test_an_unfinished_run_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, 0)
    content = json.loads(path.read_text())
    begun = {"finished": None, "settings": content["settings"], "environment": {}}
    path.write_text(json.dumps(begun))
    with pytest.raises(ResultsError, match="is not finished: give its command again"):
        load_runs(tmp_path)


def test_a_run_beside_folders_of_runs_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "seed1"):
        write(folder, 0)
    with pytest.raises(ResultsError, match=r"so do folders in it, such as .*seed1; which are"):
        load_runs(tmp_path)


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no run.json.* are for load_results"):
        load_runs(tmp_path / "lost")
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(ResultsError, match="it does not hold an object"):
        load_runs(tmp_path)
