"""A run that is killed with `kill -9` again and again ends as one that was never stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

KILLED = Path(__file__).with_name("killed.py")
KILLS = 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("recipe", ["sgd", "adam", pytest.param("sprint", marks=pytest.mark.muon)])
def test_killed_runs_end_with_the_same_bits(tmp_path: Path, recipe: str) -> None:
    done = subprocess.run(
        [sys.executable, KILLED, tmp_path, recipe, str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = re.fullmatch(r"killed (\d+), resumed (\d+), torn (\d+)\n", done.stdout)
    assert counts is not None
    killed, resumed, torn = map(int, counts.groups())
    assert (killed, resumed) == (KILLS, KILLS)  # all attempts but the first one go on
    assert torn >= 1  # a write was hit
    found, expected = (
        torch.load(tmp_path / name, weights_only=True) for name in ("result.pt", "whole.pt")
    )
    assert len(expected["checks"]) == 30
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
