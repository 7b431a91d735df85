from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from torch import nn

from cifarzoo.arithmetic import count_params
from cifarzoo.registry import build_model
from cifarzoo.viz import plot_network

SMALL = nn.Sequential(
    nn.Conv2d(3, 8, 3),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(72, 2),
)


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_each_box_states_layer_shape_and_parameters() -> None:
    texts = _texts(plot_network(SMALL, (3, 8, 8)))
    assert texts[:2] == ["image", "3×8×8"]
    conv = ["0", "convolution", "8×6×6", "240 parameters", "+ batch norm, ReLU"]
    assert texts[2:7] == conv
    assert texts[7:11] == ["3", "max pooling", "8×3×3", "no parameters"]
    assert texts[-4:] == ["5", "linear", "2", "146 parameters"]


@pytest.mark.parametrize("name", ["report_baseline", "resnet20"])
def test_the_parameters_of_the_boxes_add_up(
    name: str, assert_fits: Callable[[Figure], None]
) -> None:
    model = build_model(name)
    figure = plot_network(model)
    total = count_params(model)
    assert figure.get_suptitle().startswith(f"{total:,} parameters, ")
    numbers = [text.removesuffix(" parameters") for text in _texts(figure) if "parameters" in text]
    assert sum(int(n.replace(",", "")) for n in numbers if n != "no") == total
    assert_fits(figure)


def test_boxes_show_the_size_of_maps_and_channels() -> None:
    figure = plot_network(SMALL, (3, 8, 8))
    fronts = [patch.get_path().get_extents() for patch in figure.axes[0].patches[::3]]
    image, conv, pool, *_ = fronts
    assert image.height > conv.height > pool.height
    assert conv.width == pytest.approx(pool.width)
    assert conv.width > image.width
