from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from cifarzoo.errors import RangeError
from cifarzoo.viz import _style
from cifarzoo.viz._tiles import draw_map, filter_picture, sign_of


def test_a_filter_of_three_channels_is_a_colour_picture() -> None:
    kernel = torch.zeros(3, 2, 2)
    kernel[0, 0, 1], kernel[2, 1, 0] = 4.0, -2.0
    picture = filter_picture(kernel)
    assert picture.shape == (2, 2, 3)
    np.testing.assert_allclose(picture[0, 1], [1, 0.5, 0.5])
    np.testing.assert_allclose(picture[1, 0], [0.5, 0.5, 0.25])


@settings(deadline=None, max_examples=40)
@given(
    channels=st.integers(1, 20).filter(lambda n: n != 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_a_montage_holds_every_weight_once(channels: int, height: int, width: int) -> None:
    kernel = torch.arange(1.0, channels * height * width + 1).view(channels, height, width)
    picture = filter_picture(kernel)
    drawn = np.sort(picture[np.isfinite(picture)])
    np.testing.assert_allclose(drawn, (kernel / kernel.max()).flatten().numpy(), rtol=1e-6)
    np.testing.assert_allclose(picture[:height, :width], kernel[0] / kernel.max(), rtol=1e-6)


def test_a_filter_of_zeros_is_grey() -> None:
    assert (filter_picture(torch.zeros(3, 2, 2)) == 0.5).all()


def test_a_filter_that_is_not_finite() -> None:
    with pytest.raises(RangeError, match="NaN or infinity"):
        filter_picture(torch.full((3, 2, 2), float("inf")))


def test_zero_is_in_the_middle_where_maps_have_both_signs() -> None:
    maps = torch.tensor([[[-1.0, 4.0]], [[0.0, 2.0]]])
    assert sign_of(maps) == "both"
    assert sign_of(maps[1:]) == "positive"
    axes = Figure().subplots(1, 2)
    draw_map(axes[0], maps[0], title="a", sign="both")
    draw_map(axes[1], maps[1], title="b", sign="positive")
    both, positive = (axis.images[0] for axis in axes)
    assert both.get_clim() == (-4, 4)
    assert both.get_cmap().name == _style.DIVERGING
    assert positive.get_clim() == (0, 2)
    assert axes[0].get_xlabel() == "−1 to 4"


def test_a_map_of_zeros_can_be_drawn() -> None:
    axes = Figure().subplots(1, 2)
    draw_map(axes[0], torch.zeros(2, 2), title="a", sign="both")
    draw_map(axes[1], torch.zeros(2, 2), title="b", sign="positive")
    assert axes[0].images[0].get_clim() == (-1, 1)
    assert axes[1].images[0].get_clim() == (0, 1)
