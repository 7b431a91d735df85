"""Recordings that are killed with `kill -9` end as one that was never stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cifarzoo.report.folder import load_results
from cifarzoo.weights.hashes import sha256_of

SCRIPT = Path(__file__).with_name("killed_recording.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_recording_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.fullmatch(
        r"killed 5, done 2, steps (\d+) (\d+), batches (\d+) (\d+)", done.stdout.splitlines()[-1]
    )
    assert said is not None, done.stdout + done.stderr[-3000:]
    steps, steps_killed, batches, batches_killed = map(int, said.groups())
    checks = 2 * 3 * 2  # seeds, epochs, checks an epoch
    assert steps < steps_killed <= steps + 2 * (steps // checks + 1)  # lost: since the last check
    assert batches <= batches_killed <= batches + 2
    killed, whole = (tmp_path / name for name in ("killed", "whole"))
    names = {"report_baseline-default.safetensors", "report_baseline-default.json"}
    assert {path.name for path in (killed / "weights").iterdir()} == names
    (file,) = (name for name in names if name.endswith(".safetensors"))
    assert sha256_of(killed / "weights" / file) == sha256_of(whole / "weights" / file)
    left = {path.name for path in (killed / "work").iterdir()}
    assert left == {"seed0.safetensors", "seed1.safetensors"}
    found, wanted = (load_results(folder / "results").records for folder in (killed, whole))
    assert [record.seed for record in found] == [0, 1]
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.sha256, ours.test, ours.train) == (theirs.sha256, theirs.test, theirs.train)
        losses = ([each.train_loss for each in one.history.checks] for one in (ours, theirs))
        assert len({tuple(each) for each in losses}) == 1
