from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from cifarzoo.errors import OptionError, ShapeError
from cifarzoo.registry import build_model
from cifarzoo.viz import plot_receptive_field

MODEL = nn.Sequential(
    nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)
)


def _frame(figure: Figure) -> tuple[float, float, float, float]:
    (box, *_) = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return box.get_x(), box.get_y(), box.get_width(), box.get_height()


def test_the_frame_holds_every_pixel_that_counts(assert_fits: Callable[[Figure], None]) -> None:
    torch.manual_seed(0)
    figure = plot_receptive_field(MODEL, torch.rand(3, 16, 16), "3", (4, 5))
    assert _frame(figure) == (8 - 0.5 - 1, 6 - 0.5 - 1 + 0, 8, 8)
    strength = np.asarray(figure.axes[1].images[0].get_array())
    rows, columns = strength.nonzero()
    assert 5 <= rows.min() <= rows.max() < 13
    assert 7 <= columns.min() <= columns.max() < 15
    assert figure.get_suptitle() == "3: one place sees 8×8 pixels"
    assert_fits(figure)


def test_none_takes_the_middle() -> None:
    image = torch.rand(3, 16, 16)
    assert _frame(plot_receptive_field(MODEL, image, "3")) == _frame(
        plot_receptive_field(MODEL, image, "3", (4, 4))
    )


def test_a_frame_beyond_the_image_is_shown_whole(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_receptive_field(MODEL, torch.rand(3, 16, 16), "3", (0, 7))
    left, top, width, height = _frame(figure)
    (x0, x1), (y1, y0) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert x0 < left < left + width < x1
    assert y0 < top < top + height < y1
    assert_fits(figure)


def test_takes_a_model_of_the_zoo_and_leaves_it_as_it_was() -> None:
    model = build_model("report_model2").train()
    plot_receptive_field(model, torch.randint(256, (3, 32, 32), dtype=torch.uint8), "block2.conv1")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_refuses_what_cannot_be_drawn() -> None:
    image = torch.rand(3, 16, 16)
    with pytest.raises(OptionError, match="unknown layer 'conv'"):
        plot_receptive_field(MODEL, image, "conv")
    with pytest.raises(OptionError, match=r"position is \(8, 0\); allowed: rows 0 to 7"):
        plot_receptive_field(MODEL, image, "3", (8, 0))
    with pytest.raises(ShapeError, match="pick one of the batch"):
        plot_receptive_field(MODEL, image[None], "3")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    with pytest.raises(ShapeError, match="needed are maps"):
        plot_receptive_field(flat, image, "1")
