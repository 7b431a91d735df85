"""Pictures look like the approved ones; `--mpl-generate-path` makes new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from matplotlib.figure import Figure

from cifarzoo import viz

PICTURES = sorted(name for name in viz.__all__ if name.startswith("plot_"))
TOLERANCE = 4.0  # root mean square in 0..255: a moved label causes 8 or more, font hinting 1


def _compared(theme: str) -> pytest.MarkDecorator:
    return pytest.mark.mpl_image_compare(
        baseline_dir=f"reference/{theme}",
        style="default",
        tolerance=TOLERANCE,
        savefig_kwargs={"dpi": 50},
    )


@_compared("light")
@pytest.mark.parametrize("name", PICTURES)
def test_light(name: str, drawings: Mapping[str, Callable[[], Figure]]) -> Figure:
    return drawings[name]()


@_compared("dark")
@pytest.mark.parametrize("name", PICTURES)
def test_dark(name: str, drawings: Mapping[str, Callable[[], Figure]]) -> Figure:
    with viz.theme("dark"):
        return drawings[name]()  # rendered after the theme has ended, as when a user saves it
