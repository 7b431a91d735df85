from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifarzoo.errors import LabelError, OptionError, RangeError, ShapeError
from cifarzoo.viz import _style, plot_predictions

NAMES = ["airplane", "automobile", "bird", "cat"]
PROBABILITIES = torch.tensor([[0.1, 0.7, 0.001, 0.199], [0.5, 0.1, 0.1, 0.3]])


def test_draws_truth_and_the_likeliest(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_predictions(torch.rand(2, 3, 8, 8), torch.tensor([1, 3]), PROBABILITIES, NAMES)
    right, bars, wrong, wrong_bars = figure.axes
    assert right.get_title() == "automobile ✓"
    assert wrong.get_title() == "cat ✗"
    assert [text.get_text() for text in bars.texts] == [
        *("automobile", "70%", "cat", "20%", "airplane", "10%")
    ]
    drawn = [patch for patch in wrong_bars.patches if isinstance(patch, Rectangle)]
    assert [patch.get_width() for patch in drawn[:2]] == pytest.approx([0.5, 0.3])
    colours = [patch.get_facecolor()[:3] for patch in drawn]
    assert same_color(colours[0], _style.LIGHT.vermillion)
    assert same_color(colours[1], _style.LIGHT.blue)
    assert same_color(colours[2], _style.LIGHT.grey)
    assert_fits(figure)


def test_without_the_truth(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_predictions(torch.rand(1, 3, 8, 8), None, PROBABILITIES[:1, :2] / 0.8)
    assert figure.axes[0].get_title() == "1"
    assert len(figure.axes[1].patches) == 2
    assert_fits(figure)


def test_of_many_images_the_first_are_drawn() -> None:
    figure = plot_predictions(torch.rand(50, 3, 2, 2), None, torch.full((50, 4), 0.25))
    assert len(figure.axes) == 2 * 36
    assert figure.get_suptitle() == "the first 36 of 50 images"


@pytest.mark.parametrize(
    ("probabilities", "error", "words"),
    [
        (torch.rand(2, 4) + 1, RangeError, "softmax"),
        (torch.tensor([[-1.0, 2.0], [0.5, 0.5]]), RangeError, "negative"),
        (torch.full((2, 4), float("nan")), RangeError, "NaN"),
        (torch.full((3, 4), 0.25), ShapeError, r"\(2, classes\)"),
        (torch.full((2,), 0.5), ShapeError, r"\(2,\)"),
    ],
)
def test_probabilities_that_are_none(
    probabilities: torch.Tensor, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        plot_predictions(torch.rand(2, 3, 8, 8), None, probabilities)


def test_labels_and_names_that_do_not_fit() -> None:
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(LabelError, match="label 4 does not exist; allowed: 0 to 3"):
        plot_predictions(images, torch.tensor([0, 4]), PROBABILITIES, NAMES)
    with pytest.raises(OptionError, match="4 names"):
        plot_predictions(images, None, PROBABILITIES, NAMES[:3])
