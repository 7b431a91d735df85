from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.viz import ModelPoint, plot_sizes

POINTS = [
    ModelPoint(name="small", size=1e5, accuracy=0.9, std=0.01),
    ModelPoint(name="large", size=1e6, accuracy=0.95),
    ModelPoint(name="resnet20", size=2.7e5, accuracy=0.926, source="a paper"),
]


def test_points_have_their_place_name_and_unit() -> None:
    figure = plot_sizes(POINTS)
    (axis,) = figure.axes
    drawn = np.concatenate([np.asarray(line.get_xydata()) for line in axis.lines])
    for point in POINTS:
        assert np.isclose(drawn, (point.size, 100 * point.accuracy)).all(1).any()
    assert {text.get_text() for text in axis.texts} == {"small", "large", "resnet20"}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ours", "published by others"]
    ours = plot_sizes(POINTS[:2], size="multiply-accumulates")
    assert not ours.legends
    assert ours.axes[0].get_xlabel() == "multiply-accumulates for one image"


def test_halving_the_error_is_the_same_distance_everywhere() -> None:
    (axis,) = plot_sizes(POINTS).axes
    heights = axis.transData.transform([(1e5, each) for each in (80, 90, 95, 97.5)])[:, 1]
    np.testing.assert_allclose(np.diff(heights), heights[1] - heights[0])
    assert heights[1] > heights[0]


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_extremes_are_within_the_frame(accuracy: float) -> None:
    (axis,) = plot_sizes([ModelPoint(name="x", size=10, accuracy=accuracy), *POINTS]).axes
    x, y = axis.transData.transform((10, 100 * accuracy))
    assert axis.get_window_extent().contains(x, y)


def test_names_do_not_overlap() -> None:
    close = [
        ModelPoint(name=f"a model named {i}", size=1e6 * (1 + i / 50), accuracy=0.9 + i / 900)
        for i in range(5)
    ]
    figure = plot_sizes([*close, POINTS[0]])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": float("nan")}, {"accuracy": 95.0}, {"std": -0.1}]
)
def test_unsuitable_points_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=next(iter(change))):
        ModelPoint(**{"name": "x", "size": 10, "accuracy": 0.5, **change})


def test_other_arguments_are_rejected() -> None:
    with pytest.raises(InvalidValueError, match="points is empty"):
        plot_sizes([])
    with pytest.raises(InvalidTypeError, match="resnet"):
        plot_sizes(["resnet"])  # type: ignore[list-item]
    with pytest.raises(InvalidValueError, match="size"):
        plot_sizes(POINTS, size="macs")  # type: ignore[arg-type]
