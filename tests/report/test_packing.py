"""The median run's weights are put into the package."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cifarzoo import Recipe, ResultsError
from cifarzoo.report.packing import median_run, pack
from cifarzoo.report.record import Record
from cifarzoo.weights import packaged
from cifarzoo.weights.packaged import packaged_file, packaged_weights


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the package's weights."""
    monkeypatch.setattr(packaged, "_FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.mark.parametrize(
    ("accuracies", "seed"),
    [
        ((0.9, 0.7, 0.8), 2),
        ((0.7, 0.9), 0),
        ((0.9, 0.6, 0.8, 0.7), 3),
        ((0.8, 0.8, 0.8), 1),
        ((0.5,), 0),
    ],
)
def test_the_median_is_kept_and_never_the_best(
    make_record: Callable[..., Record],
    tmp_path: Path,
    folder: Path,
    accuracies: tuple[float, ...],
    seed: int,
) -> None:
    files = {i: tmp_path / f"{i}.safetensors" for i in range(len(accuracies))}
    records = []
    for i, accuracy in enumerate(accuracies):
        files[i].write_bytes(bytes([i]) * 9)
        digest = hashlib.sha256(files[i].read_bytes()).hexdigest()
        records.append(make_record("baseline", i, accuracy, sha256=digest))
    weights = pack("report_baseline", "default", records[::-1], lambda run: files[run.seed])
    assert weights.seed == seed == median_run(records).seed
    assert weights.accuracy == accuracies[seed]
    assert weights.mean == pytest.approx(sum(accuracies) / len(accuracies))
    assert weights.seeds == tuple(range(len(accuracies)))
    assert packaged_file("report_baseline", "default").read_bytes() == bytes([seed]) * 9
    assert packaged_weights("report_baseline", folder) == (weights,)


def test_runs_that_differ_are_not_packed_together(
    make_record: Callable[..., Record], recipe: Recipe
) -> None:
    one = make_record("baseline", 0)
    for other in (replace(one, seed=1, recipe=recipe), one):
        with pytest.raises(ResultsError, match="differ in more than their seed"):
            pack("report_baseline", "default", [one, other], no_file)
    with pytest.raises(ResultsError, match="no test score"):
        pack("report_baseline", "default", [replace(one, test=None)], no_file)
    with pytest.raises(ResultsError, match="there are no runs"):
        pack("report_baseline", "default", [], no_file)


def no_file(record: Record) -> Path:
    raise AssertionError(f"the weights of seed {record.seed} are not needed")


def test_two_machines_are_both_named(make_record: Callable[..., Record], tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"a")
    digest = hashlib.sha256(b"a").hexdigest()
    one = make_record("baseline", 0, sha256=digest)
    other = replace(one, seed=1, machine=replace(one.machine, cores=8))
    weights = pack("report_baseline", "default", [one, other], lambda _: file)
    assert weights.machine == f"{one.machine}; {other.machine}"
    resumed = replace(one, total_seconds=None)
    weights = pack("report_baseline", "default", [resumed], lambda _: file)
    assert weights.machine == f"{one.machine} (earlier parts: not known)"
    resumed = replace(resumed, machines=("first", "second"))
    weights = pack("report_baseline", "default", [resumed], lambda _: file)
    assert weights.machine == "first; second"
