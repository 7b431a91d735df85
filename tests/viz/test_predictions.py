from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.predict import Predictions
from cifarzoo.viz import plot_mistakes, plot_predictions
from cifarzoo.viz.theme import LIGHT

NAMES = ["airplane", "automobile", "bird", "cat"]
PROBABILITIES = torch.tensor([[0.1, 0.7, 0.001, 0.199], [0.5, 0.1, 0.1, 0.3]])
SHADES = torch.arange(4, dtype=torch.uint8).mul(60).view(4, 1, 1, 1).expand(4, 3, 8, 8)
BINARY = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])


def test_the_true_class_and_the_most_probable_ones_are_shown() -> None:
    figure = plot_predictions(torch.rand(2, 3, 8, 8), torch.tensor([1, 3]), PROBABILITIES, NAMES)
    right, bars, wrong, wrong_bars = figure.axes
    assert (right.get_title(), wrong.get_title()) == ("automobile ✓", "cat ✗")
    texts = [text.get_text() for text in bars.texts]
    assert texts == ["automobile", "70%", "cat", "20%", "airplane", "10%"]
    drawn = [patch for patch in wrong_bars.patches if isinstance(patch, Rectangle)]
    assert [patch.get_width() for patch in drawn[:2]] == pytest.approx([0.5, 0.3])
    colours = [patch.get_facecolor()[:3] for patch in drawn]
    for colour, expected in zip(colours, (LIGHT.vermillion, LIGHT.blue, LIGHT.grey), strict=True):
        assert same_color(colour, expected)


def test_labels_are_optional() -> None:
    figure = plot_predictions(torch.rand(50, 3, 2, 2), None, torch.full((50, 2), 0.5))
    assert len(figure.axes) == 2 * 36
    assert figure.axes[0].get_title() == "0"
    assert len(figure.axes[1].patches) == 2
    assert figure.get_suptitle() == "first 36 of 50 images"


def test_the_most_confident_mistakes_come_first() -> None:
    labels = torch.tensor([1, 0, 0, 1])
    figure = plot_mistakes(SHADES, labels, BINARY, ["cat", "dog"])
    shades = [np.asarray(axis.images[0].get_array())[0, 0, 0] for axis in figure.axes[::2]]
    np.testing.assert_allclose(shades, [0, 60 / 255, 120 / 255])
    assert [axis.get_title() for axis in figure.axes[::2]] == ["dog ✗", "cat ✗", "cat ✗"]
    assert figure.get_suptitle() == "3 most confident of 3 mistakes among 4 images"
    assert len(plot_mistakes(SHADES, labels, BINARY, count=1).axes) == 2


@pytest.mark.parametrize("title", [None, "a title"])
def test_having_no_mistakes_is_stated(
    title: str | None, assert_fits: Callable[[Figure], None]
) -> None:
    figure = plot_mistakes(SHADES, torch.tensor([0, 1, 1, 1]), BINARY, title=title)
    assert figure.get_suptitle().endswith("no mistakes among 4 images")
    assert_fits(figure)


def test_unsuitable_arguments_are_rejected() -> None:
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 4])
    for wrong in (PROBABILITIES + 1, PROBABILITIES[:1]):
        with pytest.raises(InvalidValueError, match="probabilities"):
            plot_predictions(images, None, wrong)
    with pytest.raises(InvalidValueError, match="4 names"):
        plot_predictions(images, None, PROBABILITIES, NAMES[:3])
    for count in (0, 37):
        with pytest.raises(InvalidValueError, match="count"):
            plot_mistakes(images, labels, PROBABILITIES, count=count)


def test_the_class_names_of_predictions_are_used() -> None:
    labels, names = torch.tensor([1, 0, 0, 1]), ("cat", "dog")
    predictions = Predictions(probabilities=BINARY, labels=labels, class_names=names)
    for draw in (plot_predictions, plot_mistakes):
        figure = draw(SHADES, labels, predictions)
        assert figure.axes[0].get_title() == "dog ✗"
