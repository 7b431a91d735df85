from __future__ import annotations

import builtins
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from cifarzoo.errors import LabelError, MissingExtraError, OptionError, ShapeError
from cifarzoo.registry import build_model
from cifarzoo.viz import plot_grad_cam, plot_occlusion
from cifarzoo.viz._layers import last_maps


class _Corner(nn.Module):
    """Class 0 is a bright upper left quarter, class 1 a bright lower right one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        corners = maps[:, 0, :8, :8].mean((1, 2)), maps[:, 0, 8:, 8:].mean((1, 2))
        return torch.stack(corners, dim=1)


def _image() -> Tensor:
    image = torch.full((1, 3, 16, 16), 0.5)  # the grey that occlusion covers with
    image[:, :, :8, :8] = 1
    return image


def _strongest(figure: Figure) -> tuple[int, int]:
    """Find where the overlay differs most from grey."""
    picture = np.asarray(figure.axes[1].images[0].get_array())
    colour = picture.max(2) - picture.min(2)
    row, column = np.unravel_index(colour.argmax(), colour.shape)
    return int(row), int(column)


def test_occlusion_finds_the_place_that_decides(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_occlusion(_Corner(), _image(), class_names=["left", "right"], window=4)
    row, column = _strongest(figure)
    assert row < 8
    assert column < 8
    assert figure.axes[0].get_title().startswith("left, ")
    assert figure.axes[-1].get_ylabel() == "probability lost (percentage points)"
    assert_fits(figure)


def test_occlusion_of_another_class() -> None:
    image = _image()
    image[:, :, 8:, 8:] = 0.9
    figure = plot_occlusion(_Corner(), image, torch.tensor([1]), window=4)
    row, column = _strongest(figure)
    assert (row < 8) == (column < 8)
    assert figure.axes[0].get_title().startswith("1, ")


def test_grad_cam_weighs_maps_by_their_gradient(assert_fits: Callable[[Figure], None]) -> None:
    figure = plot_grad_cam(_Corner(), _image(), layer="conv")
    picture = np.asarray(figure.axes[1].images[0].get_array())
    inside, outside = picture[2, 2], picture[12, 12]
    assert np.abs(inside - outside).max() > 0.3
    assert figure.get_suptitle() == "Grad-CAM at conv, 16×16 pixels"
    assert_fits(figure)


def test_many_images_in_rows_and_a_model_of_the_zoo(assert_fits: Callable[[Figure], None]) -> None:
    model = build_model("report_model2").train()
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    figure = plot_grad_cam(model, images)
    assert len([axis for axis in figure.axes if axis.images]) == 16
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert_fits(figure)


def test_the_layer_is_the_last_as_large_as_the_last_convolution() -> None:
    images = torch.rand(1, 3, 32, 32)
    assert last_maps(build_model("report_model2"), images) == "network.block3.norm"
    with pytest.raises(OptionError, match="no convolution"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), images)


def test_refuses_what_cannot_be_drawn() -> None:
    image = _image()
    with pytest.raises(OptionError, match="window is 17; allowed: whole numbers, 1 to 16"):
        plot_occlusion(_Corner(), image, window=17)
    with pytest.raises(OptionError, match="stride is 5"):
        plot_occlusion(_Corner(), image, window=4, stride=5)
    with pytest.raises(LabelError, match="label 2"):
        plot_grad_cam(_Corner(), image, torch.tensor([2]))
    with pytest.raises(OptionError, match="unknown layer 'cnv'; did you mean 'conv'"):
        plot_grad_cam(_Corner(), image, layer="cnv")
    with pytest.raises(OptionError, match="needed are 2 names"):
        plot_grad_cam(_Corner(), image, class_names=["left"])
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Linear(4, 2))
    with pytest.raises(ShapeError, match="needed are maps"):
        plot_grad_cam(flat, image, layer="1")


def test_without_captum_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("captum"):
            raise ImportError("no captum")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.startswith("captum")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install captum"):
        plot_occlusion(_Corner(), _image())
