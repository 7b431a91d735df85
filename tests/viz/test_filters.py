from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.viz import plot_filters
from cifarzoo.viz._tiles import filter_picture


def test_colour_filters(assert_fits: Callable[[Figure], None]) -> None:
    conv = nn.Conv2d(3, 20, 5)
    figure = plot_filters(conv, [3, 17])
    assert [axis.get_title() for axis in figure.axes] == ["3", "17"]
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(drawn, filter_picture(conv.weight[17]))
    assert figure.get_suptitle().startswith("2 of 20 filters (mid-grey: 0")
    assert_fits(figure)


@pytest.mark.parametrize(
    ("conv", "axes"),
    [
        (nn.Conv2d(3, 70, 3), 64),
        (nn.Conv2d(8, 70, 3), 16),
        (nn.Conv2d(8, 8, 3, groups=8), 8),
        (nn.Conv2d(5, 1, 1), 1),
    ],
)
def test_the_first_filters(conv: nn.Conv2d, axes: int) -> None:
    assert len(plot_filters(conv).axes) == axes


def test_montages(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_filters(nn.Conv2d(8, 5, 3).to(torch.bfloat16), title="mine")
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (11, 11)
    assert figure.get_suptitle() == "mine"
    assert_fits(figure)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(OptionError, match=r"conv is a Linear; needed is a torch\.nn\.Conv2d"):
        plot_filters(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="filter 9 does not exist; allowed: 0 to 3"):
        plot_filters(nn.Conv2d(3, 4, 3), [9])
