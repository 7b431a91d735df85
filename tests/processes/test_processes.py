"""Several processes train one model: `torchrun`, gloo, and what one process alone would find."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch

import cifarzoo as zoo
from cifarzoo import CheckpointError, OptionError
from cifarzoo.processes import Team, is_launched, joined, this_team
from cifarzoo.training import fit as fit_module
from cifarzoo.training.arguments import require_shares

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 120  # no launch takes a quarter of that; one that hangs fails

Launch: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def launch(count: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Start processes as a user does."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={count}", *map(str, command)),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process finds."""
    folder = tmp_path_factory.mktemp("alone")
    for task in ("agree", "see", "score"):
        worker().TASKS[task](Team(), folder)
    return folder


@pytest.fixture(scope="module", params=[2, 4])
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path]:
    """What several find."""
    count = int(request.param)
    folder = tmp_path_factory.mktemp(f"processes{count}")
    tasks = ("agree", "show", "see", "score", "stop", "fail")
    done = launch(count, WORKER, folder, *tasks)
    assert done.returncode == 0, done.stderr  # whole: its beginning says who failed first
    return count, folder


def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["worker"] = module
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Any:  # noqa: ANN401 - whatever the worker saved
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "recipe", ["sgd", "early", "adam", pytest.param("muon", marks=pytest.mark.muon)]
)
def test_several_processes_agree_with_one(
    alone: Path, together: tuple[int, Path], recipe: str
) -> None:
    count, folder = together
    expected = read(alone / f"{recipe}-0.pt")
    for rank in range(count):
        found = read(folder / f"{recipe}-{rank}.pt")
        torch.testing.assert_close(found["state"], expected["state"], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            torch.tensor(found["checks"]), torch.tensor(expected["checks"]), rtol=1e-5, atol=1e-6
        )
        assert found["images"] == expected["images"]


def test_every_image_is_seen_once(alone: Path, together: tuple[int, Path]) -> None:
    count, folder = together
    expected = read(alone / "seen-0.pt")
    parts = [read(folder / f"seen-{rank}.pt") for rank in range(count)]
    for epoch in range(2):
        seen = torch.cat([part[epoch] for part in parts])
        assert len(set(seen.tolist())) == len(seen) == 30
        assert sorted(seen.tolist()) == sorted(expected[epoch].tolist())


def test_all_images_are_scored_with_equal_counts(alone: Path, together: tuple[int, Path]) -> None:
    count, folder = together
    expected = read(alone / "score-0.pt")
    assert expected["test"][0] == expected["test_tta"][0] == 10_000
    for rank in range(count):
        found = read(folder / f"score-{rank}.pt")
        for name, (n, accuracy, loss, confusion) in expected.items():
            assert found[name][:2] == (n, accuracy)
            assert found[name][3] == confusion
            assert found[name][2] == pytest.approx(loss, rel=1e-5)


def test_one_process_shows_progress(together: tuple[int, Path]) -> None:
    count, folder = together
    shown = [(folder / f"shown-{rank}").read_text() for rank in range(count)]
    assert shown == ["True", *["False"] * (count - 1)]


def test_one_stops_all_and_all_go_on(together: tuple[int, Path]) -> None:
    count, folder = together
    assert {path.name for path in folder.glob("called-*")} == {"called-0"}
    whole = read(folder / "whole-0.pt")
    for rank in range(count):
        assert (folder / f"stopped-{rank}").exists()
        found = read(folder / f"resumed-{rank}.pt")
        assert found["taken"] < whole["taken"] == 6
        torch.testing.assert_close(found | {"taken": 6}, whole, rtol=0, atol=0)
    options = {"dropout": 0.5, "checkpoint": folder / "stopped.pt"}
    with pytest.raises(
        CheckpointError, match=f"processes: {count} in the file, 1 now.*--nproc-per-node"
    ):
        worker().train("sgd", **options)


def test_all_find_out_what_cannot_be(together: tuple[int, Path]) -> None:
    count, folder = together
    messages = {
        "lost": r"NonFiniteLossError: the training loss at step 2 is not finite",
        "differ": r"OptionError: the first process and process 1 were asked .* differ in seed;",
        "write": r"CheckpointError: cannot write the checkpoint .*run\.pt",
        "damaged": r"CheckpointError: .*damaged\.pt cannot be read as a checkpoint",
        "norm": r"OptionError: OwnNorm is a batch norm with a forward of its own",
        "idle": r"OptionError: a step used none of idle\.weight, idle\.bias,",
    }
    for rank in range(count):
        found = json.loads((folder / f"failed-{rank}.json").read_text())
        assert found.keys() == messages.keys()
        for name, message in messages.items():
            assert re.match(message, found[name]), found[name]


@pytest.mark.parametrize("task", ["die", "die_first"])
def test_a_killed_process_ends_the_job_which_goes_on_later(
    alone: Path, tmp_path: Path, task: str
) -> None:
    done = launch(2, WORKER, tmp_path, task)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "exitcode  : -9" in done.stderr
    assert (tmp_path / "killed").exists()
    assert not (tmp_path / "survived-0.pt").exists()
    assert launch(2, WORKER, tmp_path, task).returncode == 0
    found, expected = read(tmp_path / "survived-1.pt"), read(alone / "sgd-0.pt")
    assert 0 < found["taken"] < expected["taken"] == 6  # it did not begin anew
    torch.testing.assert_close(found["state"], expected["state"], rtol=1e-6, atol=1e-7)


def test_the_command_is_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = (
        *("-m", "cifarzoo", "train", "report_baseline", "--data", "shapes", "--limit", "120"),
        *("--epochs", "1", "--batch-size", "20", "--device", "cpu", "--out", folder),
    )
    done = launch(2, *command)
    assert done.returncode == 0, done.stderr  # whole: its beginning says who failed first
    assert "2 processes" in done.stderr
    assert done.stderr.count("Ctrl-C stops") == done.stdout.count("test") == 1
    record = json.loads((folder / "run.json").read_text())
    assert record["scores"]["test"]["n"] == 120
    assert not (folder / "checkpoint.pt").exists()
    again = launch(2, *command)
    assert again.returncode == 0
    assert again.stderr.count("was finished on") == 1
    assert again.stdout == done.stdout
    other = launch(2, *command, "--seed", "1")
    assert other.returncode == 1
    assert other.stderr.count("holds another run (seed: 0 in the file, 1 now)") == 1
    wrong = launch(2, *command, "--weights", "nowhere.pth", "--fresh")
    assert wrong.returncode == 1
    assert wrong.stderr.count("nowhere.pth does not exist") == 1
    assert json.loads((folder / "run.json").read_text()) == record
    recording = launch(2, *command[:4], "--record")
    assert recording.returncode == 1
    assert "--record is one process's work" in recording.stderr


def test_one_process_is_a_team_of_one() -> None:
    assert not is_launched()
    with joined("cpu") as team:
        assert team == this_team() == Team()
    assert team.is_alone
    assert team.leads
    tensor = torch.ones(2)
    assert team.total(tensor) is tensor
    assert team.gathered(tensor) == [tensor]
    assert team.everyones("a") == ["a"]
    assert team.leaders("a") == "a"
    assert team.sums((1, 2)) == [1, 2]


@pytest.mark.parametrize("first", ["plain", "mixed"])
def test_processes_whose_recipes_differ_in_a_part_find_out(first: str) -> None:
    runs: dict[str, dict[str, object]] = {
        "plain": {"seed": 0},
        "mixed": {"seed": 0, "recipe.mixing": "Mixing()"},
    }
    team: Any = SimpleNamespace(everyones=lambda mine: [mine, *runs.values()])
    with pytest.raises(OptionError, match=r"process [12] were .* differ in recipe\.mixing;"):
        fit_module._require_one_run(runs[first], team)


def test_loaders_that_cannot_be_shared_are_refused(loaders: zoo.Loaders) -> None:
    team, cpu, plain = Team(rank=0, size=3), torch.device("cpu"), zoo.Recipe()
    with pytest.raises(OptionError, match="3 processes share the run, but list has no shard"):
        require_shares(zoo.Loaders(list(loaders.train)), team, cpu, plain)
    assert isinstance(loaders.train, zoo.TensorLoader)
    uneven = loaders.train.in_order(batch_size=47)
    with pytest.raises(OptionError, match="last training batch has fewer images than the 3 proc"):
        require_shares(zoo.Loaders(uneven), team, cpu, plain)
    require_shares(loaders, team, cpu, plain)
    with pytest.raises(OptionError, match="device is 'mps'; allowed for several processes"):
        require_shares(loaders, team, torch.device("mps"), plain)
    choosing = replace(plain, selection=zoo.Selection())
    with pytest.raises(OptionError, match="3 processes share the run, but the recipe chooses"):
        require_shares(loaders, team, cpu, choosing)
