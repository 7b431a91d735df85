from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import matplotlib as mpl
import torch

from cifarzoo import viz
from cifarzoo.training.history import History

DRAW = """
import sys, torch
from cifarzoo import viz
assert "matplotlib" not in sys.modules
viz.plot_images(torch.rand(2, 3, 8, 8)).draw_without_rendering()
viz.plot_filters(torch.nn.Conv2d(3, 2, 3)).draw_without_rendering()
viz.plot_confusion(torch.eye(3)).draw_without_rendering()
assert "matplotlib.pyplot" not in sys.modules
"""


def test_neither_importing_nor_drawing_loads_pyplot() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRAW], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    assert all(hasattr(viz, name) for name in viz.__all__)
    drawn = {name for name in vars(viz) if name.startswith("plot_")}
    assert drawn <= set(viz.__all__)


def test_global_settings_are_left_as_found(make_history: Callable[..., History]) -> None:
    settings, random = dict(mpl.rcParams), torch.get_rng_state()
    viz.plot_history(make_history()).draw_without_rendering()
    viz.plot_images(viz.orientation_pattern(64)[None]).draw_without_rendering()
    assert dict(mpl.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), random)
