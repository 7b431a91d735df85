"""Outputs and gradients of a model's layers; the model is not changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from cifarzoo.arithmetic.forward import check_model
from cifarzoo.errors import InvalidValueError, suggest
from cifarzoo.evaluation.classifier import evaluation_mode
from cifarzoo.viz._inputs import check_image

PREFIX = "network."  # in front of the layers of an `ImageClassifier`


def full_name(model: nn.Module, layer: str) -> str:
    """Return the name in `named_modules` of a layer, whose "network." may be omitted."""
    check_model(model)
    names = {name for name, _ in model.named_modules(remove_duplicate=False) if name}
    for name in (layer, f"{PREFIX}{layer}"):
        if name in names:
            return name
    hint = suggest(layer, [name.removeprefix(PREFIX) for name in names])
    raise InvalidValueError(f"unknown layer {layer!r}{hint or '; see model.named_modules()'}")


def model_input(model: nn.Module, images: Tensor) -> Tensor:
    """Return images as floats in [0, 1] of the model's dtype, on its device."""
    check_model(model)
    tensors = [*model.parameters(), *model.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    return (images / 255 if images.dtype == torch.uint8 else images).to(like)


def layer_maps(model: nn.Module, image: Tensor, layer: str) -> Tensor:
    """Return the output of a layer for an image (3,H,W), float32 (C,H,W) on the CPU.

    The model runs in evaluation mode. If a layer runs more than once, its last output is returned.
    """
    with evaluation_mode(model):
        return _maps(model, model_input(model, check_image(image)), layer)[0].float().cpu()


def input_gradient(
    model: nn.Module, image: Tensor, layer: str, position: tuple[int, int] | None
) -> Tensor:
    """Return how strongly a position of a layer's maps depends on each pixel.

    Returns:
        float32 (H,W), on the CPU: the norm over colour channels of the gradient, with respect to
        the pixel, of the sum of the maps at row and column `position` (the centre if None).
    """
    pixels = model_input(model, check_image(image)).requires_grad_()
    with evaluation_mode(model), torch.enable_grad():
        maps = _maps(model, pixels, layer)
        row, column = position or (maps.shape[2] // 2, maps.shape[3] // 2)
        (gradient,) = torch.autograd.grad(maps[0, :, row, column].sum(), pixels)
    strength: Tensor = gradient[0].float().norm(dim=0)
    return strength.cpu()


def last_maps(model: nn.Module, images: Tensor) -> str:
    """Return the last layer whose maps are as large as the last convolution's.

    Convolutions whose output is a single pixel are ignored.
    """
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    ran: list[tuple[nn.Module, torch.Size]] = []

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1:
            ran.append((module, output.shape[2:]))

    with evaluation_mode(model), register_module_forward_hook(record):
        model(images)
    sizes = [size for module, size in ran if isinstance(module, nn.Conv2d)]
    if not sizes:
        raise InvalidValueError("no convolution of the model returns maps: expected a layer's name")
    return next(names[module] for module, size in reversed(ran) if size == sizes[-1])


def _maps(model: nn.Module, pixels: Tensor, layer: str) -> Tensor:
    outputs: list[object] = []

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        # Cloned because an in-place activation after this layer would change it.
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    module = model.get_submodule(full_name(model, layer))
    with module.register_forward_hook(record):
        model(pixels)
    if not outputs:
        raise InvalidValueError(f"layer {layer!r} did not run")
    maps = outputs[-1]
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else f"a {type(maps).__name__}"
        raise InvalidValueError(f"layer {layer!r} returns {found}: expected maps (N, C, H, W)")
    if not maps.isfinite().all():
        raise InvalidValueError(f"the output of layer {layer!r} is not finite")
    return maps
