"""Finds layers of a model that are computed faster together, and does so while it is fitted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from cifarzoo.training.convolutions import Convolution, can_fuse_relu

__all__ = ["fused_layers"]

Step: TypeAlias = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def fused_layers(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute a model's layers with fewer passes over memory, in the block, to the same result.

    In an `nn.Sequential` a ReLU is taken together with the convolution before it and a max pooling
    after it. A convolution alone may have its weight gradient computed another way. The model's
    modules, names and hooks stay as they are: a layer with hooks is called as ever.

    Args:
        model: changed in the block only, by a `forward` of its own in some of its modules.
        device: where it runs; on anything but a CPU nothing is done, nor to a compiled model.
        dtype: that it is computed in.
    """
    patched: list[nn.Module] = []
    compiled = any(hasattr(module, "_orig_mod") for module in model.modules())
    if device.type == "cpu" and not compiled:
        patched = [*_patch_convolutions(model, dtype), *_patch_sequences(model, dtype)]
    try:
        yield
    finally:
        for module in patched:
            del module.forward


def _patch_convolutions(model: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and Convolution.fits(layer) and _is_plain(layer):
            convolution = Convolution(layer, "none", dtype)
            if convolution.packs:
                layer.forward = convolution  # type: ignore[method-assign, assignment]
                yield layer


def _patch_sequences(model: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    for sequence in model.modules():
        if type(sequence) is nn.Sequential and _is_plain(sequence):
            steps = list(_steps(list(sequence), dtype))
            if any(isinstance(step, _Fused) for step in steps):
                sequence.forward = _Sequence(steps)  # type: ignore[method-assign]
                yield sequence


def _is_plain(module: nn.Module) -> bool:
    """Tell whether a module's `forward` is that of its class."""
    return "forward" not in vars(module)


def _steps(layers: list[nn.Module], dtype: torch.dtype) -> Iterator[Step]:
    """Group the layers of a sequence, in their order."""
    while layers:
        conv, relu, pool = (*layers, None, None)[:3]
        assert conv is not None
        if not (can_fuse_relu() and Convolution.fits(conv) and type(relu) is nn.ReLU):
            yield conv
            layers = layers[1:]
            continue
        assert isinstance(conv, nn.Conv2d)
        if type(pool) is nn.MaxPool2d and not pool.return_indices:
            yield _Fused((conv, relu, pool), Convolution(conv, "relu_gated_later", dtype))
            layers = layers[3:]
        else:
            yield _Fused((conv, relu), Convolution(conv, "relu", dtype))
            layers = layers[2:]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What an `nn.Sequential` does, with some layers taken together."""

    steps: list[Step]

    def __call__(self, maps: Tensor) -> Tensor:
        for step in self.steps:
            maps = step(maps)
        return maps


@dataclass(frozen=True, slots=True)
class _Fused:
    """A convolution, its ReLU, and perhaps a max pooling."""

    layers: tuple[nn.Module, ...]
    convolution: Convolution

    def __call__(self, maps: Tensor) -> Tensor:
        if maps.ndim != 4 or any(_has_hooks(layer) for layer in self.layers):
            for layer in self.layers:
                maps = layer(maps)
            return maps
        maps = self.convolution(maps)
        if len(self.layers) == 2:
            return maps
        gate: Step = _Gate.apply
        return gate(nn.MaxPool2d.forward(self.layers[2], maps))  # type: ignore[arg-type]


def _has_hooks(layer: nn.Module) -> bool:
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


class _Gate(torch.autograd.Function):
    """The gradient of a ReLU that was applied before a max pooling, taken after it.

    A maximum is positive or it is zero, and a zero passes no gradient on: where the pooled map is
    zero, so were all pixels that it was made from.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(maps)
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401
        (maps,) = ctx.saved_tensors
        gated: Tensor = torch.ops.aten.threshold_backward(grads[0], maps, 0)
        return gated
