from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from cifarzoo.registry import build_model
from cifarzoo.viz import (
    plot_activations,
    plot_filter_responses,
    plot_grad_cam,
    plot_network,
    plot_occlusion,
    plot_receptive_field,
)

grad_cam: Any = sys.modules[plot_grad_cam.__module__]


class _Corners(nn.Module):
    """Class 0 has a bright upper left quarter, class 1 a bright lower right one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    @override
    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        corners = maps[:, 0, :8, :8].mean((1, 2)), maps[:, 0, 8:, 8:].mean((1, 2))
        return torch.stack(corners, dim=1)


@pytest.fixture
def image() -> Tensor:
    image = torch.full((1, 3, 16, 16), 0.5)  # the grey of the occluding square
    image[:, :, :8, :8] = 1
    image[:, :, 8:, 8:] = 0.9
    return image


@pytest.mark.parametrize(("target", "corner"), [(None, (0, 0)), (torch.tensor([1]), (8, 8))])
def test_occlusion_finds_the_decisive_area(
    image: Tensor, target: Tensor | None, corner: tuple[int, int]
) -> None:
    figure = plot_occlusion(_Corners(), image, target, ["left", "right"], window=4)
    pixels = np.asarray(figure.axes[1].images[0].get_array())
    red = pixels[..., 0] - pixels[..., 2]  # probability was lost there
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert (row // 8 * 8, column // 8 * 8) == corner
    assert not red[:5, 11:].any()  # no square that covers these pixels covers any others than grey
    assert not red[11:, :5].any()
    assert figure.axes[0].get_title().startswith("left, " if target is None else "right, ")


def test_grad_cam_is_the_map_times_its_mean_gradient(
    image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One map, the sum of the colours, with a positive gradient: the image over its maximum."""
    drawn: list[Tensor] = []
    draw = grad_cam.draw_attribution

    def record(inputs: Tensor, maps: Tensor, *args: Any, **kwargs: Any) -> Figure:  # noqa: ANN401
        drawn.append(maps)
        figure: Figure = draw(inputs, maps, *args, **kwargs)
        return figure

    monkeypatch.setattr(grad_cam, "draw_attribution", record)
    figure = plot_grad_cam(_Corners(), image, layer="conv")
    torch.testing.assert_close(drawn[0], image[:, 0])
    assert figure.get_suptitle() == "Grad-CAM at conv, 16×16 pixels"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_dtypes_are_drawn(image: Tensor, dtype: torch.dtype) -> None:
    model = _Corners().to(dtype)
    figures = [plot_grad_cam(model, image), plot_occlusion(model, image, window=8)]
    figures += [draw(model, image[0], "conv") for draw in (plot_activations, plot_receptive_field)]
    figures += [plot_filter_responses(model, image[0], "conv"), plot_network(model, (3, 16, 16))]
    assert all(figure.axes for figure in figures)


def test_scripted_and_lazy_models_are_rejected(image: Tensor) -> None:
    with warnings.catch_warnings(action="ignore"):
        models = torch.jit.script(nn.Sequential(nn.ReLU())), nn.Sequential(nn.LazyConv2d(4, 3))
    for model in models:
        for draw in (plot_activations, plot_filter_responses, plot_receptive_field):
            with pytest.raises(InvalidTypeError, match=r"scripted|lazy"):
                draw(model, image[0], "0")
        for explain in (plot_grad_cam, plot_occlusion):
            with pytest.raises(InvalidTypeError, match=r"scripted|lazy"):
                explain(model, image)


def test_the_class_names_of_a_model_are_used(image: Tensor) -> None:
    model = _Corners()
    model.class_names = ("left", "right")  # type: ignore[assignment]
    for draw in (plot_grad_cam, plot_occlusion):
        assert draw(model, image).axes[0].get_title().startswith("left, ")
        assert draw(model, image, class_names=["a", "b"]).axes[0].get_title().startswith("a, ")


def test_a_model_is_not_changed_by_explaining_it(assert_fits: Callable[[Figure], None]) -> None:
    model = build_model("report_model2").train()
    figure = plot_grad_cam(model, torch.randint(256, (14, 3, 32, 32), dtype=torch.uint8))
    assert len([axis for axis in figure.axes if axis.images]) == 2 * 12
    assert figure.get_suptitle().startswith("Grad-CAM at network.block3.")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert_fits(figure)


def test_unsuitable_windows_classes_and_layers_are_rejected(image: Tensor) -> None:
    for window in (0, 17):
        with pytest.raises(InvalidValueError, match="window"):
            plot_occlusion(_Corners(), image, window=window)
    with pytest.raises(InvalidValueError, match="labels"):
        plot_grad_cam(_Corners(), image, torch.tensor([2]))
    with pytest.raises(InvalidValueError, match="did you mean 'conv'"):
        plot_grad_cam(_Corners(), image, layer="cnv")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Linear(4, 2))
    with pytest.raises(InvalidValueError, match="expected maps"):
        plot_grad_cam(flat, image, layer="1")


def test_a_missing_captum_is_named(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(MissingExtraError, match="pip install captum"):
        plot_occlusion(_Corners(), image)
