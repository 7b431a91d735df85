from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.collections import Collection, LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cifarzoo.errors import OptionError, RangeError
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.viz import plot_per_class

COUNTS = torch.tensor([[8, 2, 0], [1, 3, 0], [0, 0, 0]])


def _segments(drawn: Collection) -> list[NDArray[np.float64]]:
    assert isinstance(drawn, LineCollection)
    return [np.asarray(segment) for segment in drawn.get_segments()]


def test_bars_are_the_shares_of_each_class(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_per_class(COUNTS, ["cat", "dog", "ship"])
    (axis,) = figure.axes
    widths = [patch.get_width() for patch in axis.patches if isinstance(patch, Rectangle)]
    assert widths == pytest.approx([80, 75])
    assert [text.get_text() for text in axis.texts] == ["80.0", "75.0", "no images"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["cat", "dog", "ship"]
    assert figure.get_suptitle() == "accuracy 78.57% of 14 images"
    overall = next(line for line in axis.lines if line.get_label() == "all classes")
    assert overall.get_xdata() == pytest.approx([100 * 11 / 14] * 2)
    assert_fits(figure)


def test_whiskers_are_wilsons_intervals() -> None:
    (axis,) = plot_per_class(COUNTS).axes
    drawn = [tuple(segment[:, 0]) for each in axis.collections for segment in _segments(each)]
    wanted = [tuple(100 * e for e in accuracy_interval(k, n)) for k, n in ((8, 10), (3, 4))]
    for one, two in zip(drawn, wanted, strict=True):
        assert one == pytest.approx(two)


def test_without_a_mistake_or_a_hit_the_whiskers_stay_within_the_axis() -> None:
    (axis,) = plot_per_class(torch.tensor([[5, 0], [5, 0]])).axes
    ends = [x for each in axis.collections for seg in _segments(each) for x in seg[:, 0]]
    assert min(ends) >= 0
    assert max(ends) <= 100


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(RangeError, match="counts no image"):
        plot_per_class(torch.zeros(2, 2))
    with pytest.raises(OptionError, match="needed are 3 names"):
        plot_per_class(COUNTS, ["cat"])
