from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from torch import nn

from cifarzoo.arithmetic.cost import count_params
from cifarzoo.errors import OptionError, ShapeError
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


def test_layers_shapes_and_parameters_stand_below_boxes(
    assert_fits: Callable[[Figure], None],
) -> None:
    figure = plot_network(SMALL, (3, 8, 8))
    texts = _texts(figure)
    assert texts[:2] == ["image", "3×8×8"]
    assert texts[2:7] == [
        *("0", "convolution", "8×6×6", "240 parameters", "+ batch norm, ReLU"),
    ]
    assert texts[7:11] == ["3", "max pooling", "8×3×3", "no parameters"]
    assert texts[-4:] == ["5", "linear", "2", "146 parameters"]
    assert len(figure.axes[0].patches) == 3 * 5
    assert_fits(figure)


def test_the_title_counts_the_whole(assert_fits: Callable[[Figure], None]) -> None:
    model = build_model("report_baseline")
    figure = plot_network(model)
    assert figure.get_suptitle().startswith(f"{count_params(model):,} parameters, ")
    shown = [text for text in _texts(figure) if text.endswith(" parameters")]
    assert sum(int(s.split()[0].replace(",", "")) for s in shown if s[0] != "n") == 390_410
    assert "block1.conv1" in _texts(figure)
    assert_fits(figure)


def test_wider_maps_are_taller_and_more_channels_wider() -> None:
    figure = plot_network(SMALL, (3, 8, 8))
    fronts = [patch.get_path().get_extents() for patch in figure.axes[0].patches[::3]]
    image, conv, pool, *_ = fronts
    assert image.height > conv.height > pool.height
    assert conv.width == pytest.approx(pool.width)
    assert conv.width > image.width


def test_names_too_long_for_a_cell_are_cut_at_the_front(
    assert_fits: Callable[[Figure], None],
) -> None:
    deep = nn.ModuleDict({"a_very_long_name_of_a_layer": nn.Conv2d(3, 4, 1)})
    model = nn.Sequential()
    model.add_module("outer_block_number_one", deep["a_very_long_name_of_a_layer"])
    figure = plot_network(model)
    assert any(text.startswith("…") for text in _texts(figure))
    assert_fits(figure)


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(OptionError, match="build_model"):
        plot_network("resnet20")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="input_size is"):
        plot_network(SMALL, (8, 8))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="cannot take"):
        plot_network(SMALL, (1, 8, 8))
