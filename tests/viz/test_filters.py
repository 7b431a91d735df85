from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.viz import plot_activations, plot_filter_responses, plot_filters
from cifarzoo.viz._tiles import draw_map, filter_pixels
from cifarzoo.viz.theme import DIVERGING


def _pixels(axis: Axes) -> NDArray[np.float64]:
    return np.asarray(axis.images[0].get_array(), dtype=np.float64)


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 3), nn.Flatten())


def test_a_filter_of_three_channels_is_in_colour() -> None:
    kernel = torch.zeros(3, 2, 2)
    assert (filter_pixels(kernel) == 0.5).all()
    kernel[0, 0, 1], kernel[2, 1, 0] = 4.0, -2.0
    pixels = filter_pixels(kernel)
    assert pixels.shape == (2, 2, 3)
    np.testing.assert_allclose(pixels[0, 1], [1, 0.5, 0.5])
    np.testing.assert_allclose(pixels[1, 0], [0.5, 0.5, 0.25])
    with pytest.raises(InvalidValueError, match="not finite"):
        filter_pixels(torch.full((3, 2, 2), float("inf")))


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (2, 3, 3), (7, 1, 5)])
def test_a_montage_contains_every_weight_once(channels: int, height: int, width: int) -> None:
    kernel = torch.arange(1.0, channels * height * width + 1).view(channels, height, width)
    pixels, expected = filter_pixels(kernel), kernel / kernel.max()
    np.testing.assert_allclose(np.sort(pixels[np.isfinite(pixels)]), expected.flatten().numpy())
    np.testing.assert_allclose(pixels[:height, :width], expected[0])


@pytest.mark.parametrize(
    ("conv", "count"),
    [
        (nn.Conv2d(3, 70, 3), 64),
        (nn.Conv2d(8, 70, 3), 16),
        (nn.Conv2d(8, 8, 3, groups=8), 8),
        (nn.Conv2d(5, 1, 1).to(torch.bfloat16), 1),
    ],
)
def test_the_first_filters_are_drawn(
    conv: nn.Conv2d, count: int, assert_fits: Callable[[Figure], None]
) -> None:
    figure = plot_filters(conv)
    assert [axis.get_title() for axis in figure.axes] == [str(i) for i in range(count)]
    np.testing.assert_array_equal(_pixels(figure.axes[-1]), filter_pixels(conv.weight[count - 1]))
    assert_fits(figure)


def test_zero_is_in_the_middle_of_maps_with_both_signs() -> None:
    both, positive, zero = Figure().subplots(1, 3)
    draw_map(both, torch.tensor([[-1.0, 4.0]]), title="", signed=True)
    draw_map(positive, torch.tensor([[0.5, 2.0]]), title="", signed=False)
    draw_map(zero, torch.zeros(2, 2), title="", signed=False)
    limits = [axis.images[0].get_clim() for axis in (both, positive, zero)]
    assert limits == [(-4, 4), (0, 2), (0, 1)]
    assert both.images[0].get_cmap().name == DIVERGING
    assert both.get_xlabel() == "−1 to 4"


def test_chosen_activations_are_those_of_the_layer(model: nn.Sequential) -> None:
    image = torch.rand(3, 10, 12)
    figure = plot_activations(model, image, "0", [2, 11])
    assert [axis.get_title() for axis in figure.axes] == ["image", "map 2", "map 11"]
    np.testing.assert_array_equal(_pixels(figure.axes[0]), image.permute(1, 2, 0).numpy())
    with torch.no_grad():
        expected = model[0](image[None])[0, 11].numpy()
    np.testing.assert_allclose(_pixels(figure.axes[2]), expected, atol=1e-6)
    assert figure.get_suptitle() == "0: 2 of 12 maps, 8×10 pixels"
    assert len(plot_activations(model, image, "1").axes) == 11


def test_each_filter_is_above_its_map(
    model: nn.Sequential, assert_fits: Callable[[Figure], None]
) -> None:
    image = torch.rand(3, 10, 10)
    figure = plot_filter_responses(model, image, "0", [7, 1])
    titles = ["image", "filter 7", "map 7", "filter 1", "map 1"]
    assert [axis.get_title() for axis in figure.axes] == titles
    figure.draw_without_rendering()
    above, below = (figure.axes[i].get_position() for i in (1, 2))
    assert above.y0 > below.y1
    several_rows = plot_filter_responses(model, image, "2", range(6))
    assert len(several_rows.axes) == 1 + 2 * 6
    assert_fits(several_rows)


def test_unsuitable_layers_and_indices_are_rejected(model: nn.Sequential) -> None:
    image = torch.rand(3, 10, 10)
    with pytest.raises(InvalidTypeError, match=r"a ReLU: expected a torch\.nn\.Conv2d"):
        plot_filter_responses(model, image, "1")
    with pytest.raises(InvalidTypeError, match="conv is a Linear"):
        plot_filters(nn.Linear(2, 2))  # type: ignore[arg-type]
    for wrong in ([12], [-1], []):
        with pytest.raises(InvalidValueError, match=r"map index|at least one map"):
            plot_activations(model, image, "1", wrong)
    with pytest.raises(InvalidValueError, match=r"images\[0\]"):
        plot_activations(model, image[None], "1")
