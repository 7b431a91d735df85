from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarzoo.errors import OptionError, RangeError
from cifarzoo.viz import ModelPoint, plot_sizes

POINTS = [
    ModelPoint(name="ours_small", size=1e5, accuracy=0.9, std=0.01),
    ModelPoint(name="ours_large", size=1e6, accuracy=0.95),
    ModelPoint(name="resnet20", size=2.7e5, accuracy=0.926, source="a paper"),
]


def test_points_names_and_units(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_sizes(POINTS)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("parameters", "accuracy (%)")
    assert {text.get_text() for text in axis.texts} == {"ours_small", "ours_large", "resnet20"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "ours",
        "published by others",
    ]
    assert_fits(figure)


def test_halving_the_errors_is_always_as_far() -> None:
    (axis,) = plot_sizes(POINTS).figure.axes
    heights = axis.transData.transform([(1e5, each) for each in (80, 90, 95, 97.5)])[:, 1]
    assert np.allclose(np.diff(heights), heights[1] - heights[0])
    assert heights[1] > heights[0]
    ticks = [label.get_text() for label in axis.get_yticklabels()]
    assert ticks[:2] == ["90", "92"]
    assert ticks[-2:] == ["94", "95"]


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_extremes_have_a_place(accuracy: float) -> None:
    points = [ModelPoint(name="x", size=10, accuracy=accuracy), *POINTS]
    (axis,) = plot_sizes(points).figure.axes
    frame = axis.get_window_extent()
    x, y = axis.transData.transform((10, 100 * accuracy))
    assert frame.contains(x, y)


def test_without_others_there_is_no_legend() -> None:
    figure = plot_sizes(POINTS[:2], size="multiply-accumulates")
    assert not figure.legends
    assert figure.axes[0].get_xlabel() == "multiply-accumulates for one image"


def test_names_of_close_points_do_not_overlap() -> None:
    close = [
        ModelPoint(name=f"a model named {i}", size=1e6 * (1 + i / 50), accuracy=0.9 + i / 900)
        for i in range(5)
    ]
    figure = plot_sizes([*close, POINTS[0]])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    overlapping = [
        (i, j)
        for i, one in enumerate(boxes)
        for j, two in enumerate(boxes[:i])
        if one.overlaps(two)
    ]
    assert not overlapping


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 0}, "size of 'x' is 0"),
        ({"size": float("nan")}, "size of 'x' is nan"),
        ({"accuracy": 95.0}, "accuracy of 'x' is 95.0; allowed: 0 to 1"),
        ({"std": -0.1}, "std of 'x' is -0.1"),
    ],
)
def test_a_point_is_checked(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RangeError, match=words):
        ModelPoint(**{"name": "x", "size": 10, "accuracy": 0.5, **change})


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(OptionError, match="points is empty"):
        plot_sizes([])
    with pytest.raises(OptionError, match="a point is 'resnet'"):
        plot_sizes(["resnet"])  # type: ignore[list-item]
    with pytest.raises(OptionError, match="unknown size 'macs'"):
        plot_sizes(POINTS, size="macs")  # type: ignore[arg-type]
