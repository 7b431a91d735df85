from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.record import Evaluation
from cifarzoo.viz import plot_confusion, plot_per_class

COUNTS = torch.tensor([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
EVALUATION = Evaluation(
    loss=0.5,
    accuracy=11 / 14,
    interval=(0.52, 0.92),
    per_class=(0.8, 0.75, float("nan")),
    confusion=COUNTS,
    calibration_error=0.1,
    n=14,
    tta="flip",
)


def test_cells_show_counts_and_colours_show_shares() -> None:
    figure = plot_confusion(COUNTS, ["cat", "dog", "ship"])
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["8", "2", "0", "1", "3", "0", "0", "0", "0"]
    shares = np.asarray(axis.images[0].get_array())
    np.testing.assert_allclose(shares, [[80, 20, 0], [25, 75, 0], [0, 0, 0]])
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["cat", "dog", "ship"]
    assert figure.get_suptitle() == "accuracy 78.57% on 14 images"
    percents = plot_confusion(COUNTS, values="percent").axes[0].texts
    assert [text.get_text() for text in percents[:4]] == ["80.0", "20.0", "0.0", "25.0"]
    with pytest.raises(InvalidValueError, match="did you mean 'percent'"):
        plot_confusion(COUNTS, values="percents")  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", [plot_confusion, plot_per_class])
def test_an_evaluation_adds_its_interval_to_the_title(draw: Callable[..., Figure]) -> None:
    title = draw(EVALUATION).get_suptitle().replace("\n", " ")
    assert "with flip test-time augmentation (95 % interval 52.00% to 92.00%)" in title
    with pytest.raises(InvalidValueError, match="without its confusion matrix"):
        draw(replace(EVALUATION, confusion=None))


def test_the_numbers_of_a_large_test_set_do_not_overlap() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    figure = plot_confusion(torch.full((10, 10), 12345), [*names, "truck"])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes[:10]))
    labels = [tick.get_window_extent() for tick in figure.axes[0].get_yticklabels()]
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(labels))


def test_the_names_of_a_hundred_classes_are_thinned(
    assert_fits: Callable[[Figure], None],
) -> None:
    figure = plot_confusion(torch.eye(100))
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) == 25
    assert_fits(figure)


def test_bars_are_the_accuracy_of_each_class() -> None:
    (axis,) = plot_per_class(COUNTS, ["cat", "dog", "ship"]).axes
    widths = [patch.get_width() for patch in axis.patches if isinstance(patch, Rectangle)]
    assert widths == pytest.approx([80, 75])
    assert [text.get_text() for text in axis.texts] == ["80.0", "75.0", "no images"]
    overall = next(line for line in axis.lines if line.get_label() == "all classes")
    assert overall.get_xdata() == pytest.approx([100 * 11 / 14] * 2)


@pytest.mark.parametrize("counts", [COUNTS[:2, :2], torch.tensor([[5, 0], [5, 0]])])
def test_error_bars_are_wilson_intervals(counts: torch.Tensor) -> None:
    (axis,) = plot_per_class(counts).axes
    bars = [each for each in axis.collections if isinstance(each, LineCollection)]
    for bar, row, correct in zip(bars, counts, counts.diagonal(), strict=True):
        low, high = np.asarray(bar.get_segments()[0])[:, 0]
        interval = accuracy_interval(int(correct), int(row.sum()))
        assert (low, high) == pytest.approx([100 * end for end in interval])
        assert 0 <= low <= high <= 100


@pytest.mark.parametrize("draw", [plot_confusion, plot_per_class])
def test_a_matrix_must_contain_counts(draw: Callable[..., Figure]) -> None:
    nan, negative = torch.full((2, 2), float("nan")), torch.tensor([[1, -2], [0, 1]])
    for wrong in (torch.zeros(2, 3), torch.zeros(0, 0), nan, negative):
        with pytest.raises(InvalidValueError, match="confusion"):
            draw(wrong)
    with pytest.raises(InvalidTypeError, match="confusion"):
        draw([[1, 0], [0, 1]])
    with pytest.raises(InvalidValueError, match="3 names"):
        draw(COUNTS, ["cat"])


def test_an_empty_matrix_has_no_accuracy() -> None:
    assert plot_confusion(torch.zeros(2, 2)).get_suptitle() == "no images"
    with pytest.raises(InvalidValueError, match="at least one image"):
        plot_per_class(torch.zeros(2, 2))
