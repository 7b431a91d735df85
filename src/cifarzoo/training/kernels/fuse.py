"""Replacement of `forward` in the layers that `kernels` computes faster."""

from __future__ import annotations

import contextlib
import operator
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import MethodType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.device import is_compiled
from cifarzoo.training.kernels import dropout
from cifarzoo.training.kernels.convolutions import Convolution, can_fuse_relu

__all__ = ["fast_layers"]

_Forward: TypeAlias = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def fast_layers(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute a model's layers with less memory traffic within the block.

    The results are the same except that dropout in bfloat16 draws other random numbers and oneDNN's
    ReLU turns NaN into 0. Modules, names and hooks are unchanged; layers with hooks, copies made
    within the block and calls under `torch.func` or forward-mode differentiation are as usual.

    Args:
        model: model in which some modules get another `forward` until the block ends.
        device: device of the model; nothing changes unless it is a CPU.
        dtype: dtype of convolutions and matrix products.
    """
    with contextlib.ExitStack() as stack:
        if device.type == "cpu" and not any(map(is_compiled, model.modules())):
            for module, forward in list(_replacements(model, dtype)):
                module.forward = _Replacement(module, forward, stack)
                stack.callback(vars(module).pop, "forward", None)
        yield


class _Replacement:
    """A module's `forward` within a block, which copies of the module do not take over."""

    def __init__(self, module: nn.Module, forward: _Forward, stack: contextlib.ExitStack) -> None:
        self.module, self.forward, self.stack = module, forward, stack

    def __call__(self, maps: Tensor) -> Tensor:
        return self.forward(maps)

    @override
    def __reduce__(self) -> tuple[Any, ...]:  # for pickle
        return getattr, (self.module, "forward")

    def __deepcopy__(self, memo: dict[int, Any]) -> MethodType:
        copied = memo[id(self.module)]
        self.stack.callback(_restore, weakref.ref(copied))
        return MethodType(type(copied).forward, copied)


def _restore(copied: weakref.ref[nn.Module]) -> None:
    if (module := copied()) is not None:
        vars(module).pop("forward", None)


def _replacements(model: nn.Module, dtype: torch.dtype) -> Iterator[tuple[nn.Module, _Forward]]:
    fuses = can_fuse_relu(dtype)
    for module in filter(_has_own_forward, model.modules()):
        if isinstance(module, nn.Conv2d) and Convolution.supports(module):
            conv = Convolution(module)
            if conv.packs(dtype) or conv.widens(dtype):
                yield module, conv
        elif isinstance(module, nn.Dropout) and dropout.supports(module, dtype):
            yield module, partial(dropout.dropout, module)
        elif type(module) is nn.Sequential and fuses:
            layers = list(module)
            steps = list(_steps(layers))
            if len(steps) < len(layers):
                yield module, partial(_run, module, layers, steps)


def _has_own_forward(module: nn.Module) -> bool:
    """Return whether `forward` is that of the module's class."""
    return "forward" not in vars(module)


def _is(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Return whether a module has exactly this type; a subclass may behave differently."""
    return module is not None and type(module) is kind and _has_own_forward(module)


def _steps(layers: list[nn.Module]) -> Iterator[_Forward]:
    """Group a convolution with its ReLU and an optional max pooling; yield other layers alone."""
    while layers:
        first, relu, pool = (*layers, None, None)[:3]
        size = 1
        if isinstance(first, nn.Conv2d) and Convolution.supports(first) and _is(relu, nn.ReLU):
            size = 2 + (_is(pool, nn.MaxPool2d) and not getattr(pool, "return_indices", True))
            yield _fuse(first, *layers[1:size])
        else:
            yield layers[0]
        layers = layers[size:]


def _fuse(conv: nn.Conv2d, *others: nn.Module) -> _Forward:
    """Return the forward pass of a convolution, its ReLU and an optional max pooling."""
    fused = Convolution(conv, "relu" if len(others) == 1 else "relu_gated_later")
    gate: _Forward = _Gate.apply

    def forward(maps: Tensor) -> Tensor:
        if not fused.accepts(maps) or any(map(_has_hooks, (conv, *others))):
            return _chain((conv, *others), maps)
        maps = fused(maps)
        return maps if len(others) == 1 else gate(others[1].forward(maps))

    return forward


def _run(
    module: nn.Sequential, layers: list[nn.Module], steps: list[_Forward], maps: Tensor
) -> Tensor:
    is_unchanged = len(module) == len(layers) and all(map(operator.is_, module, layers))
    return _chain(steps if is_unchanged else module, maps)


def _chain(steps: Iterable[_Forward], maps: Tensor) -> Tensor:
    for step in steps:
        maps = step(maps)
    return maps


def _has_hooks(layer: nn.Module) -> bool:
    kinds = ("forward", "forward_pre", "backward", "backward_pre")
    own = any(getattr(layer, f"_{kind}_hooks") for kind in kinds)
    modules: Any = torch.nn.modules.module
    return own or bool(modules._has_any_global_hook())


class _Gate(torch.autograd.Function):
    """The gradient of a ReLU before a max pooling, applied after it, where maps are smaller.

    Where the pooled map is 0, all its pixels were 0, and a ReLU passes no gradient to those. The
    map is returned itself rather than copied; later layers may change it in place.
    """

    @staticmethod
    @override
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps > 0)
        ctx.mark_dirty(maps)
        return maps

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        passes: Tensor = ctx.saved_tensors[0]
        return grads[0] * passes
