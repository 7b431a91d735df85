from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from cifarzoo.errors import InvalidValueError
from cifarzoo.viz import plot_receptive_field

MODEL = nn.Sequential(
    nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)
)


def _frame(figure: Figure) -> tuple[float, float, float, float]:
    (frame, *_) = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()


def test_the_gradient_is_zero_outside_the_frame() -> None:
    figure = plot_receptive_field(MODEL, torch.rand(3, 16, 16), "3", (4, 5))
    assert _frame(figure) == (6.5, 4.5, 8, 8)
    strength = np.asarray(figure.axes[1].images[0].get_array())
    rows, columns = strength.nonzero()
    assert 5 <= rows.min() <= rows.max() < 13
    assert 7 <= columns.min() <= columns.max() < 15
    assert figure.get_suptitle() == "3: receptive field of 8×8 pixels"


def test_the_default_position_is_the_centre() -> None:
    image = torch.rand(3, 16, 16)
    one, two = (plot_receptive_field(MODEL, image, "3", place) for place in (None, (4, 4)))
    assert _frame(one) == _frame(two)
    first, second = (figure.axes[1].images[0].get_array() for figure in (one, two))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_unsuitable_positions_images_and_layers_are_rejected() -> None:
    image = torch.rand(3, 16, 16)
    with pytest.raises(InvalidValueError, match=r"position.*\(8, 0\)"):
        plot_receptive_field(MODEL, image, "3", (8, 0))
    with pytest.raises(InvalidValueError, match="image"):
        plot_receptive_field(MODEL, image[None], "3")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with pytest.raises(InvalidValueError, match="expected"):
        plot_receptive_field(flat, image, "1")
