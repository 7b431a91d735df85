from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cifarzoo import OptionError, ResultsError
from cifarzoo.report import load_results, run_all, run_report
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import EXPERIMENTS, Experiment
from cifarzoo.report.folder import write_failure, write_record
from cifarzoo.report.record import Failure, Record

Make = Callable[..., Record]


class Lab:
    """Stands in for the training: writes down what was asked for, and a record of it."""

    def __init__(self, make_record: Make) -> None:
        self.make_record = make_record
        self.done: list[tuple[str, int]] = []
        self.filters: list[object] = []
        self.messages: list[str] = []
        self.fails: set[str] = set()
        self.interrupted_at: int | None = None
        self.conditions: Conditions | None = None

    def run(self, experiment: Experiment, seed: int, conditions: Conditions) -> Record | Failure:
        if len(self.done) == self.interrupted_at:
            raise KeyboardInterrupt
        self.conditions = conditions
        self.done.append((experiment.key, seed))
        if experiment.key in self.fails:
            failure = Failure(key=experiment.key, seed=seed, error="no weights", date="2026-01-01")
            write_failure(failure, conditions.folder)
            return failure
        record = self.make_record(experiment.key, seed, data=conditions.data, mode=conditions.mode)
        write_record(record, conditions.folder)
        return record

    def draw(self, folder: Path, weights: object) -> None:
        self.filters.append(weights)

    def page(self, folder: Path) -> Path:
        path = folder / "report.html"
        path.write_text("a page")
        return path


@pytest.fixture
def lab(make_record: Make, monkeypatch: pytest.MonkeyPatch) -> Lab:
    stub = Lab(make_record)
    monkeypatch.setattr(run_all, "run_experiment", stub.run)
    monkeypatch.setattr(run_all, "draw_filters", stub.draw)
    monkeypatch.setattr(run_all, "write_page", stub.page)
    monkeypatch.setattr(
        run_all, "recorded", lambda experiment, seed, conditions: _found(experiment, seed, stub)
    )
    return stub


def _found(experiment: Experiment, seed: int, lab: Lab) -> tuple[str, int] | None:
    return (experiment.key, seed) if (experiment.key, seed) in lab.done else None


def test_first_seed_of_all_comes_before_the_second_of_any(lab: Lab, tmp_path: Path) -> None:
    page = run_report(tmp_path / "new", seeds=(1, 0), on_message=lab.messages.append)
    keys = [experiment.key for experiment in EXPERIMENTS]
    assert lab.done == [(key, 1) for key in keys] + [(key, 0) for key in keys]
    assert lab.filters == [None]
    assert page.read_text() == "a page"
    assert lab.messages[1] == "[1/28] Baseline, seed 1 ..."
    assert lab.messages[2].startswith("[1/28] Baseline, seed 1: test accuracy 72.00 %, 40 steps")


def test_what_is_recorded_is_not_run_again(lab: Lab, tmp_path: Path) -> None:
    run_report(tmp_path, seeds=(0,), experiments=["baseline"])
    run_report(tmp_path, seeds=(0, 1), experiments=["baseline"], on_message=lab.messages.append)
    assert lab.done == [("baseline", 0), ("baseline", 1)]
    assert lab.messages[0] == "[1/2] Baseline, seed 0: recorded already"


def test_a_failure_does_not_stop_the_rest(lab: Lab, tmp_path: Path) -> None:
    lab.fails = {"baseline"}
    run_report(
        tmp_path, seeds=(0,), experiments=["baseline", "best"], on_message=lab.messages.append
    )
    assert lab.done == [("baseline", 0), ("best", 0)]
    assert "[1/2] Baseline, seed 0: not run: no weights" in lab.messages
    assert load_results(tmp_path).failure_of("baseline") is not None


def test_interruption_writes_the_page_and_passes_on(lab: Lab, tmp_path: Path) -> None:
    lab.interrupted_at = 1
    with pytest.raises(KeyboardInterrupt):
        run_report(tmp_path, on_message=lab.messages.append)
    assert (tmp_path / "report.html").is_file()
    assert lab.messages[-1].startswith("interrupted; what is done is in ")


def test_filters_alone_train_nothing(lab: Lab, tmp_path: Path) -> None:
    run_report(tmp_path, experiments=["filters"])
    assert lab.done == []
    assert lab.filters == [None]
    run_report(tmp_path, experiments=["baseline"], seeds=(0,))
    assert len(lab.filters) == 1


def test_options_reach_every_run(lab: Lab, tmp_path: Path) -> None:
    run_report(
        tmp_path / "x",
        data="shapes",
        root=str(tmp_path),
        seeds=(0,),
        experiments=["baseline"],
        mode="quick",
        device="cpu",
        precision="float32",
        progress=False,
    )
    assert lab.conditions == Conditions(
        folder=tmp_path / "x",
        data="shapes",
        root=tmp_path,
        mode="quick",
        device="cpu",
        precision="float32",
        progress=False,
    )


def test_folder_of_other_data_is_refused_before_anything_runs(
    lab: Lab, make_record: Make, tmp_path: Path
) -> None:
    write_record(make_record("best"), tmp_path)
    with pytest.raises(ResultsError, match=r"holds runs on cifar10 \(full\), .* another folder"):
        run_report(tmp_path, mode="quick", experiments=["baseline"])
    assert lab.done == []


def test_damaged_file_is_found_before_anything_runs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "best-seed0.json").write_text("{")
    with pytest.raises(ResultsError, match=r"best-seed0\.json"):
        run_report(tmp_path, experiments=["baseline"])
    assert lab.done == []


@pytest.mark.parametrize("seeds", [(), (0, 0), (-1,), (0.5,), (True,)])
def test_seeds_are_checked(lab: Lab, tmp_path: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"seeds are .*; allowed: one or more different integers"):
        run_report(tmp_path / "new", seeds=seeds)
    assert not (tmp_path / "new").exists()


def test_unknown_names_are_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown mode 'fast'"):
        run_report(tmp_path, mode="fast")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"unknown experiment 'bests'; did you mean 'best'"):
        run_report(tmp_path, experiments=["bests"])
    with pytest.raises(OptionError, match="no experiment to run"):
        run_report(tmp_path, experiments=[])
    with pytest.raises(OptionError, match="unknown precision 'half'"):
        run_report(tmp_path, precision="half")  # type: ignore[arg-type]
    assert lab.done == []


def test_weights_that_do_not_load_are_refused_at_once(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"typo\.pth"):
        run_report(tmp_path, weights=tmp_path / "typo.pth")
    assert lab.done == []


def test_a_quick_report_runs_end_to_end(tmp_path: Path) -> None:
    messages: list[str] = []
    page = run_report(
        tmp_path,
        data="shapes",
        seeds=(0,),
        experiments=["baseline"],
        mode="quick",
        device="cpu",
        progress=False,
        on_message=messages.append,
    )
    (record,) = load_results(tmp_path).records
    assert (record.data, record.mode, record.history.checks[-1].epoch) == ("shapes", "quick", 1.0)
    assert len(messages) == 2
    text = page.read_text(encoding="utf-8")
    assert "These figures are not a reproduction" in text
    assert "data:image/svg+xml;base64," in text
    assert not (tmp_path / ".checkpoints").exists()
