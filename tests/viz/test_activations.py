from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.viz import plot_activations


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Flatten())


def test_draws_the_image_and_its_maps(
    model: nn.Sequential, assert_fits: Callable[[Figure], None]
) -> None:
    image = torch.rand(3, 10, 12)
    figure = plot_activations(model, image, "0", [2, 11])
    assert [axis.get_title() for axis in figure.axes] == ["image", "map 2", "map 11"]
    assert figure.axes[0].get_xlabel() == "10×12 pixels"
    first, _, last = (np.asarray(axis.images[0].get_array()) for axis in figure.axes)
    np.testing.assert_array_equal(first, image.permute(1, 2, 0).numpy())
    with torch.no_grad():
        np.testing.assert_allclose(last, model[0](image[None])[0, 11].numpy(), atol=1e-6)
    assert figure.get_suptitle() == "0: 2 of 12 maps, 8×10 pixels"
    assert_fits(figure)


def test_the_first_ten_maps(model: nn.Sequential, assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_activations(model, torch.rand(3, 8, 8), "1", title="mine")
    assert len(figure.axes) == 11
    assert figure.axes[-1].get_title() == "map 9"
    assert figure.get_suptitle() == "mine"
    assert_fits(figure)


def test_a_map_that_does_not_exist(model: nn.Sequential) -> None:
    with pytest.raises(OptionError, match="map 12 does not exist; allowed: 0 to 11"):
        plot_activations(model, torch.rand(3, 8, 8), "1", [12])
