from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.viz import plot_confusion

COUNTS = torch.tensor([[8, 2, 0], [1, 3, 0], [0, 0, 0]])


def test_writes_counts_and_colours_shares(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_confusion(COUNTS, ["cat", "dog", "ship"])
    axis, bar = figure.axes
    assert [text.get_text() for text in axis.texts] == ["8", "2", "0", "1", "3", "0", "0", "0", "0"]
    shares = np.asarray(axis.images[0].get_array())
    np.testing.assert_allclose(shares, [[80, 20, 0], [25, 75, 0], [0, 0, 0]])
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "true class")
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["cat", "dog", "ship"]
    assert bar.get_ylabel() == "share of the true class (%)"
    assert figure.get_suptitle() == "accuracy 78.57% of 14 images"
    assert_fits(figure)


def test_writes_percentages() -> None:
    texts = plot_confusion(COUNTS, values="percent").axes[0].texts
    assert [text.get_text() for text in texts[:4]] == ["80.0", "20.0", "0.0", "25.0"]


def test_takes_an_evaluation(assert_fits: Callable[[Figure], None]) -> None:
    evaluation = Evaluation(
        loss=0.5,
        accuracy=11 / 14,
        interval=(0.52, 0.92),
        per_class=(0.8, 0.75, float("nan")),
        confusion=COUNTS,
        calibration_error=0.1,
        n=14,
        tta="none",
    )
    figure = plot_confusion(evaluation)
    title = "accuracy 78.57% of 14 images (95 % interval 52.00% to 92.00%)"
    assert figure.get_suptitle().replace("\n", " ") == title
    assert_fits(figure)
    views = plot_confusion(replace(evaluation, tta="flip"))
    title = title.replace(" (", " with flip test-time augmentation (")
    assert views.get_suptitle().replace("\n", " ") == title
    assert_fits(views)
    assert plot_confusion(evaluation, title="mine").get_suptitle() == "mine"


def test_numbers_of_a_ten_thousand_image_test_set_do_not_overlap() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    figure = plot_confusion(torch.full((10, 10), 12345), [*names, "truck"], values="count")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes[:10]))
    labels = [tick.get_window_extent() for tick in figure.axes[0].get_yticklabels()]
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(labels))


def test_a_hundred_classes(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_confusion(torch.eye(100))
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) == 25
    assert_fits(figure)


def test_nothing_counted() -> None:
    assert plot_confusion(torch.zeros(2, 2)).get_suptitle() == "no image counted"


@pytest.mark.parametrize(
    ("confusion", "error", "words"),
    [
        (torch.zeros(2, 3), ShapeError, r"\(2, 3\); needed is \(K, K\)"),
        (torch.zeros(0, 0), ShapeError, r"\(0, 0\)"),
        (torch.tensor([[1, -2], [0, 1]]), RangeError, "holds -2"),
        (torch.full((2, 2), float("nan")), RangeError, "nan"),
        (SimpleNamespace(accuracy=0.5), OptionError, "SimpleNamespace"),
    ],
)
def test_what_cannot_be_drawn(confusion: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plot_confusion(cast("Evaluation", confusion))


def test_options_that_do_not_fit() -> None:
    with pytest.raises(OptionError, match="did you mean 'percent'"):
        plot_confusion(COUNTS, values="percents")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="3 names"):
        plot_confusion(COUNTS, ["cat"])
