"""Training with `torchrun` on CPUs against training in a single process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cifarzoo.training import distributed

WORKER = Path(__file__).with_name("worker.py")
N = 2


def launch(count: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if os.name == "nt":
        pytest.skip("torchrun needs libuv, which torch's packages for Windows may lack")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}")
    return subprocess.run(
        [sys.executable, *torchrun, str(WORKER), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )


def read(path: Path) -> Any:  # noqa: ANN401 - what the worker saved
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a single process."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, str(WORKER), str(folder), "agree"]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two processes."""
    folder = tmp_path_factory.mktemp("together")
    done = launch(N, folder, "agree", "gather", "stop", "fail")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("recipe", ["sgd", "early", "groups"])
def test_several_processes_agree_with_one(alone: Path, together: Path, recipe: str) -> None:
    expected = read(alone / f"{recipe}-0.pt")
    for rank in range(N):
        found = read(together / f"{recipe}-{rank}.pt")
        torch.testing.assert_close(found["state"], expected["state"], rtol=1e-6, atol=1e-7)
        checks = torch.tensor(found["checks"])
        torch.testing.assert_close(checks, torch.tensor(expected["checks"]), rtol=1e-5, atol=1e-6)
        assert found["images"] == expected["images"]


def test_rows_are_gathered_in_rank_order(together: Path) -> None:
    for rank in range(N):
        assert read(together / f"rows-{rank}.pt").tolist() == [[0, 0], [1, 1], [1, 1]]


def test_batch_norm_statistics_are_the_same_in_all_processes(together: Path) -> None:
    first, other = (read(together / f"norm-{rank}.pt") for rank in range(N))
    torch.testing.assert_close(first, other, rtol=0, atol=0)


def test_signal_to_one_process_stops_all_and_all_resume(together: Path) -> None:
    assert {path.name for path in together.glob("called-*")} == {"called-0"}
    whole = read(together / "whole-0.pt")
    for rank in range(N):
        assert (together / f"stopped-{rank}").exists()
        found = read(together / f"resumed-{rank}.pt")
        assert found["taken"] < whole["taken"] == 6
        torch.testing.assert_close(found | {"taken": 6}, whole, rtol=0, atol=0)


def test_errors_are_raised_in_every_process(together: Path) -> None:
    messages = {
        "nan": "NonFiniteLossError: the training loss at step 2",
        "seeds": "InvalidValueError: the processes differ in seed",
        "path": "CheckpointError: cannot write",
        "uneven": "InvalidValueError: loaders.train cannot be divided among 2",
        "idle": "RuntimeError: Expected to have finished reduction",
    }
    for rank in range(N):
        found = json.loads((together / f"failed-{rank}.json").read_text())
        assert found.keys() == messages.keys()
        for name, message in messages.items():
            assert re.match(message, found[name]), found[name]


@pytest.mark.parametrize("built", [True, False])
def test_without_torchrun_there_is_one_process(
    monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    if not built:  # as torch is on some systems
        monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
        for name in ("is_initialized", "is_torchelastic_launched"):
            monkeypatch.delattr(torch.distributed, name)
    with distributed.process_group("cpu"):
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
    tensor, loader = torch.ones(2), [(torch.ones(2), torch.ones(2))]
    assert distributed.sum_over_processes(tensor) is distributed.gather_rows(tensor) is tensor
    assert distributed.shard(loader) is loader
