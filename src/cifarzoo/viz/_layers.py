"""Look at what a layer gives, and leave the model as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, RangeError, ShapeError, suggest, wrong_kind
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.viz._inputs import one_image

__all__ = [
    "evaluating",
    "find_layer",
    "fitting",
    "full_name",
    "input_gradient",
    "last_maps",
    "layer_maps",
]

NETWORK = "network."
MOST_NAMED = 40  # layers in an error; of a larger model the outer ones


def full_name(model: nn.Module, layer: str) -> str:
    """Give a layer's name as `named_modules` has it: "network." is added where it was left out.

    Raises:
        OptionError: there is no such layer.
    """
    find_layer(model, layer)
    return layer if layer in dict(model.named_modules(remove_duplicate=False)) else NETWORK + layer


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
    if not isinstance(layer, str):
        raise wrong_kind("layer", layer, "the name of a layer, as named_modules() gives it")
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
    with torch.no_grad():
        return _maps(_outputs(model, fitting(model, batch), layer), layer)[0].float().cpu()


def input_gradient(
    model: nn.Module, image: Tensor, layer: str, position: tuple[int, int] | None
) -> Tensor:
    """Give how strongly one place of a layer answers to each pixel of an image.

    Args:
        model: as `layer_maps` takes it.
        image: uint8, or float in [0, 1], (3,H,W).
        layer: its name.
        position: row and column on the layer's maps; None takes the middle.

    Returns:
        float32 (H,W), on the CPU: the length over the colours of the gradient of the sum of the
        maps at that place.

    Raises:
        OptionError, ShapeError, RangeError: as `layer_maps` does.
    """
    batch = fitting(model, one_image(image))
    batch = (batch / 255 if batch.dtype == torch.uint8 else batch).requires_grad_()
    with torch.enable_grad():
        maps = _maps(_outputs(model, batch, layer), layer)
        row, column = position or (maps.shape[2] // 2, maps.shape[3] // 2)
        (gradient,) = torch.autograd.grad(maps[0, :, row, column].sum(), batch)
    strength: Tensor = gradient[0].float().norm(dim=0).cpu()
    if not strength.isfinite().all():
        raise RangeError(f"the gradient of layer {layer!r} is not finite; look at the weights")
    return strength


def last_maps(model: nn.Module, images: Tensor) -> str:
    """Name the last layer whose maps are as large as those of the last convolution.

    Convolutions that give a single pixel are passed over.

    Args:
        model: as `layer_maps` takes it.
        images: uint8, or float in [0, 1], (N,3,H,W).

    Raises:
        OptionError: no layer gives such maps.
    """
    ran: list[tuple[str, tuple[int, ...], bool]] = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1:
                ran.append((name, tuple(output.shape[2:]), isinstance(module, nn.Conv2d)))

        return keep

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(note(name)).remove)
        with evaluating(model), torch.no_grad():
            model(fitting(model, images))
    sides = [side for _, side, is_conv in ran if is_conv]
    if not sides:
        raise OptionError("no convolution of the model gives maps; name a layer that does")
    return next(name for name, side, _ in reversed(ran) if side == sides[-1])


def _outputs(model: nn.Module, batch: Tensor, layer: str) -> list[object]:
    """Run a model and give what one of its layers gave at each call."""
    outputs: list[object] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        # Cloned at once: an in-place activation behind this layer would change it.
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    handle = find_layer(model, layer).register_forward_hook(keep)
    try:
        with evaluating(model):
            model(batch)
    finally:
        handle.remove()
    return outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode in the block; modes and random state are put back."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {t.device for t in model.parameters() if t.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:  # each by itself: frozen batch norms are in eval mode
                module.training = training


def fitting(model: nn.Module, batch: Tensor) -> Tensor:
    """Move images to where the model is, and make them float unless the model does that itself."""
    tensors = [*model.parameters(), *model.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    scales = isinstance(model, ImageClassifier)
    if batch.dtype == torch.uint8:
        return batch.to(like.device) if scales else batch.to(like) / 255
    return batch.to(like)


def _maps(outputs: list[object], layer: str) -> Tensor:
    """Give the last output, which has to be maps (1,C,H,W)."""
    if not outputs:
        raise OptionError(f"layer {layer!r} took no part in the model's answer; choose another")
    output = outputs[-1]
    if isinstance(output, Tensor) and output.ndim == 4:
        if not output.isfinite().all():
            raise RangeError(f"layer {layer!r} gives NaN or infinity; look at the model's weights")
        return output
    given = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise ShapeError(
        f"layer {layer!r} gives {given}; needed are maps, (N, C, H, W): choose a convolution, or "
        "another layer before the maps are pooled or flattened away"
    )
