"""Look at what a layer gives, and leave the model as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, RangeError, ShapeError, suggest
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.viz._inputs import one_image

__all__ = ["find_layer", "layer_maps"]

NETWORK = "network."
MOST_NAMED = 40  # layers in an error; of a larger model the outer ones


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """Find a layer by its name, as `named_modules` gives it.

    Of an `ImageClassifier` the leading "network." may be left out.

    Raises:
        OptionError: there is no such layer; the message gives the closest name, and the others.
    """
    named = model.named_modules(remove_duplicate=False)
    layers: dict[str, nn.Module] = {name: part for name, part in named if name}
    if isinstance(model, ImageClassifier) and layer not in layers:
        layers = {
            name.removeprefix(NETWORK): module
            for name, module in layers.items()
            if name.startswith(NETWORK)
        }
    if layer not in layers:
        hint = suggest(layer, layers) or "."
        raise OptionError(f"unknown layer {layer!r}{hint} {_known(layers)}")
    return layers[layer]


def _known(layers: dict[str, nn.Module]) -> str:
    if not layers:
        return "The model has no layers below it"
    if len(layers) <= MOST_NAMED:
        return f"Layers: {', '.join(layers)}"
    outer = [name for name in layers if "." not in name]
    inner = len(layers) - len(outer)
    return f"Layers: {', '.join(outer)}; and {inner} in them, see model.named_modules()"


def layer_maps(model: nn.Module, image: Tensor, layer: str) -> Tensor:
    """Run one image through a model and give what one layer made of it.

    The model runs in evaluation mode, without gradients; its modes, its hooks and the random state
    are put back. A layer that runs more than once gives its last output.

    Args:
        model: an `ImageClassifier`, or any module that takes float (1,3,H,W) in [0, 1].
        image: uint8, or float in [0, 1], (3,H,W).
        layer: its name.

    Returns:
        maps: float32 (C,H,W), on the CPU.

    Raises:
        OptionError: there is no such layer, or it took no part in the model's answer.
        ShapeError: image is not (3,H,W), or the layer does not give (N,C,H,W).
        RangeError: image is neither uint8 nor float in [0, 1], or the layer gives NaN or infinity.
    """
    batch = one_image(image)
    module = find_layer(model, layer)
    outputs: list[object] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        # Cloned at once: an in-place activation behind this layer would change it.
        outputs.append(output.detach().clone() if isinstance(output, Tensor) else output)

    handle = module.register_forward_hook(keep)
    try:
        with _evaluating(model), torch.no_grad():
            model(_fitting(model, batch))
    finally:
        handle.remove()
    return _maps(outputs, layer)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    devices = {t.device for t in model.parameters() if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:  # each by itself: frozen batch norms are in eval mode
                module.training = training


def _fitting(model: nn.Module, batch: Tensor) -> Tensor:
    """Move an image to where the model is, and make it float unless the model does that itself."""
    tensors = [*model.parameters(), *model.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    scales = isinstance(model, ImageClassifier)
    if batch.dtype == torch.uint8:
        return batch.to(like.device) if scales else batch.to(like) / 255
    return batch.to(like)


def _maps(outputs: list[object], layer: str) -> Tensor:
    if not outputs:
        raise OptionError(f"layer {layer!r} took no part in the model's answer; choose another")
    output = outputs[-1]
    if isinstance(output, Tensor) and output.ndim == 4:
        maps = output[0].float().cpu()
        if not maps.isfinite().all():
            raise RangeError(f"layer {layer!r} gives NaN or infinity; look at the model's weights")
        return maps
    given = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise ShapeError(
        f"layer {layer!r} gives {given}; needed are maps, (N, C, H, W): choose a convolution, or "
        "another layer before the maps are pooled or flattened away"
    )
