"""Finds layers of a model that are computed faster together, and does so for one step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from cifarzoo.training.convolutions import Convolution, can_fuse_relu
from cifarzoo.training.dropout import Dropout

__all__ = ["fused_layers"]

Step: TypeAlias = Callable[[Tensor], Tensor]
Plan: TypeAlias = tuple[nn.Module, Step]


@contextlib.contextmanager
def fused_layers(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute a model's layers with fewer passes over memory, in the block.

    In an `nn.Sequential` a ReLU is taken together with the convolution before it and a max pooling
    after it. A convolution alone may have its gradients computed another way. Dropout draws
    other random numbers. Else the result is the same but for NaN, which oneDNN's ReLU turns into
    0. The model's modules, names and hooks stay as they are: a layer with hooks is called as ever.

    Args:
        model: changed in the block only, by a `forward` of its own in some of its modules. The
            block is one training step, so nobody else sees it.
        device: where it runs; on anything but a CPU nothing is done, nor to a compiled model.
        dtype: that it is computed in.
    """
    plans: list[Plan] = []
    if device.type == "cpu" and not _is_compiled(model) and not _has_global_hooks():
        plans = [*_convolutions(model, dtype), *_dropouts(model), *_sequences(model, dtype)]
    with contextlib.ExitStack() as stack:
        for module, step in plans:
            module.forward = step
            stack.callback(vars(module).pop, "forward", None)
        yield


def _is_compiled(model: nn.Module) -> bool:
    """Tell whether `torch.compile` has any of it, in either of its forms."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def _has_global_hooks() -> bool:
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    return any(getattr(torch_module, f"_global_{kind}", None) for kind in kinds)


def _convolutions(model: nn.Module, dtype: torch.dtype) -> Iterator[Plan]:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and Convolution.fits(layer) and _is_plain(layer):
            convolution = Convolution(layer, "none")
            if convolution.packs(dtype) or convolution.widens(dtype):
                yield layer, convolution


def _dropouts(model: nn.Module) -> Iterator[Plan]:
    for layer in model.modules():
        if isinstance(layer, nn.Dropout) and Dropout.fits(layer) and _is_plain(layer):
            yield layer, Dropout(layer)


def _sequences(model: nn.Module, dtype: torch.dtype) -> Iterator[Plan]:
    if not can_fuse_relu(dtype):
        return
    for sequence in model.modules():
        if type(sequence) is nn.Sequential and _is_plain(sequence):
            steps = list(_steps(list(sequence)))
            if any(isinstance(step, _Fused) for step in steps):
                yield sequence, _Sequence(steps)


def _is_plain(module: nn.Module) -> bool:
    """Tell whether a module's `forward` is that of its class."""
    return "forward" not in vars(module)


def _steps(layers: list[nn.Module]) -> Iterator[Step]:
    """Group the layers of a sequence, in their order."""
    while layers:
        conv, relu, pool = (*layers, None, None)[:3]
        assert conv is not None
        if not (Convolution.fits(conv) and _is_plain(conv) and _is(relu, nn.ReLU)):
            yield conv
            layers = layers[1:]
            continue
        assert isinstance(conv, nn.Conv2d)
        assert relu is not None
        if pool is not None and _is(pool, nn.MaxPool2d) and not pool.return_indices:
            yield _Fused((conv, relu, pool), Convolution(conv, "relu_gated_later"))
            layers = layers[3:]
        else:
            yield _Fused((conv, relu), Convolution(conv, "relu"))
            layers = layers[2:]


def _is(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Tell whether a module does what its class says: a subclass may do anything."""
    return module is not None and type(module) is kind and _is_plain(module)


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
        if not self.convolution.takes(maps) or any(_has_hooks(layer) for layer in self.layers):
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
    zero, so were all pixels that it was made from. The map itself goes on as it is, and whoever
    follows may change it in place, as after any pooling.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(maps > 0)
        ctx.mark_dirty(maps)
        return maps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401
        (passes,) = ctx.saved_tensors
        gated: Tensor = grads[0] * passes
        return gated
