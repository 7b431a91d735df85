"""Grad-CAM: the parts of an image that support a class, according to one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.classifier import evaluation_mode
from cifarzoo.viz._attribution import draw_attribution, explained_classes, import_captum
from cifarzoo.viz._figure import picture
from cifarzoo.viz._layers import full_name, last_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture
def plot_grad_cam(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw which parts of each image support a class, according to a late layer.

    The layer's maps are summed, each weighted by the mean gradient of the class's logit with
    respect to it. The positive part is resized to the image and drawn. The model is not changed.

    Args:
        model: an `ImageClassifier`, or any module that takes float (N,3,H,W) in [0, 1].
        images: uint8, or float in [0, 1], (N,3,H,W); the first 12 are drawn.
        targets: the class to explain for each image, integers (N,); by default the predicted one.
        class_names: K names; by default those of the model, or numbers.
        layer: name in `named_modules` (a leading "network." may be omitted); by default the last
            layer whose maps are larger than a pixel.
        title: figure title; by default the layer and the size of its maps.

    Returns:
        The figure: each image above its map; the last axis is the colour bar, from zero to the
        largest value in the image.

    Raises:
        MissingExtraError: captum is not installed.
        InvalidTypeError, InvalidValueError: an argument is not accepted, or the layer has no maps.

    Source: arXiv 1610.02391, section 3, as implemented by captum.
    """
    attr = import_captum()
    inputs, classes, captions = explained_classes(model, images, targets, class_names)
    name = last_maps(model, inputs[:1]) if layer is None else full_name(model, layer)
    with evaluation_mode(model), torch.enable_grad():
        grad_cam = attr.LayerGradCam(model, model.get_submodule(name))
        coarse = grad_cam.attribute(inputs, classes, relu_attributions=True).detach().float()
    if coarse.ndim != 4:
        shape = tuple(coarse.shape)
        raise InvalidValueError(f"layer {name!r} returns {shape}: expected maps (N, C, H, W)")
    maps = nn.functional.interpolate(coarse, inputs.shape[2:], mode="bilinear")[:, 0]
    maps /= maps.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return draw_attribution(
        inputs,
        maps,
        captions,
        cmap="inferno",
        limits=(0, 1),
        label="relevance (relative to the image's maximum)",
        title=title,
        default=f"Grad-CAM at {name}, {coarse.shape[2]}×{coarse.shape[3]} pixels",
    )
