from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.viz import plot_filter_responses
from cifarzoo.viz._tiles import filter_picture


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 6, 3))


def test_each_filter_stands_above_its_map(
    model: nn.Sequential, assert_fits: Callable[[Figure], None]
) -> None:
    image = torch.rand(3, 10, 10)
    figure = plot_filter_responses(model, image, "0", [7, 1])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["image", "filter 7", "map 7", "filter 1", "map 1"]
    drawn = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    conv = model[0]
    assert isinstance(conv, nn.Conv2d)
    np.testing.assert_array_equal(drawn[1], filter_picture(conv.weight[7]))
    with torch.no_grad():
        np.testing.assert_allclose(drawn[2], model[0](image[None])[0, 7].numpy(), atol=1e-6)
    assert_fits(figure)
    above, below = (figure.axes[i].get_position() for i in (1, 2))
    assert above.y0 > below.y1
    assert above.x0 == pytest.approx(below.x0, abs=0.02)


def test_more_filters_than_fit_in_a_row(
    model: nn.Sequential, assert_fits: Callable[[Figure], None]
) -> None:
    figure = plot_filter_responses(model, torch.rand(3, 10, 10), "2", range(6))
    assert len(figure.axes) == 1 + 2 * 6
    assert_fits(figure)
    assert len(plot_filter_responses(model, torch.rand(3, 10, 10), "0").axes) == 1 + 2 * 5


def test_what_cannot_be_drawn(model: nn.Sequential) -> None:
    with pytest.raises(OptionError, match="layer '1' is a ReLU; needed is a"):
        plot_filter_responses(model, torch.rand(3, 10, 10), "1")
    with pytest.raises(OptionError, match="filter 9 does not exist"):
        plot_filter_responses(model, torch.rand(3, 10, 10), "0", [9])
