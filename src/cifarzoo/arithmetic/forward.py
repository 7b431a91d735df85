"""Forward passes that observe the output of each module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.backends.mha import get_fastpath_enabled, set_fastpath_enabled
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from cifarzoo.errors import InvalidTypeError, InvalidValueError

__all__ = ["check_model", "forward", "zero_images"]

T = TypeVar("T")


def check_model(model: object) -> None:
    """Raise `InvalidTypeError` unless a model is a plain module with initialized parameters."""
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"model is a {type(model).__name__}: expected a torch.nn.Module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InvalidTypeError("model is scripted: expected the module that was scripted")
    if any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        raise InvalidTypeError("model has lazy parameters: expected one that has run on images")


def zero_images(model: nn.Module, input_size: Sequence[int]) -> Tensor:
    """Return a batch of one black image in the dtype and on the device of a model."""
    tensors = (t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    return next(tensors, torch.zeros(())).new_zeros(1, *input_size)


def forward(
    model: nn.Module,
    images: Tensor,
    look: Callable[[str, Tensor], T],
    before_switch: Callable[[list[str]], object] = len,
) -> dict[str, T | None]:
    """Run a model without gradients in evaluation mode, and leave it unchanged.

    Attention is computed by plain matrix products. If the model is on the meta device and the
    images are not, its parameters and buffers are replaced by positive constants.

    Args:
        model: any module that takes one batch of images.
        images: batch with the batch dimension first.
        look: function of a module's name and the first tensor that it returns.
        before_switch: called with the names of the running modules before one starts or ends.

    Returns:
        The last result of `look` by module name, in the order in which modules start; None for a
        module that returned no tensor.

    Raises:
        InvalidValueError: the model raised an error.
    """
    running: list[str] = []
    seen: dict[str, T | None] = {}

    def enter(name: str) -> None:
        before_switch(running)
        running.append(name)
        seen.setdefault(name, None)

    def leave(name: str, output: object) -> None:
        before_switch(running)
        running.pop()
        tensor = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        seen[name] = None if tensor is None else look(name, tensor)

    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state |= dict(model.named_parameters())
    if not images.is_meta:
        for name, tensor in state.items():
            if tensor.is_meta:  # 1 / fan-in, so that activations neither vanish nor overflow
                value = 1 / max(1, math.prod(tensor.shape[1:]))
                state[name] = images.new_full((), value, dtype=tensor.dtype).expand(tensor.shape)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH))
        stack.callback(set_fastpath_enabled, get_fastpath_enabled())
        set_fastpath_enabled(False)
        for parameter in model.parameters():  # hooks of `FlopCounterMode` fail on views of others
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for name, module in model.named_modules():
            stack.callback(setattr, module, "training", module.training)
            hook = module.register_forward_pre_hook(lambda *_, name=name: enter(name))
            stack.callback(hook.remove)
            hook = module.register_forward_hook(lambda *args, name=name: leave(name, args[-1]))
            stack.callback(hook.remove)
        model.eval()
        try:
            functional_call(model, state, (images,))
        except Exception as error:
            raise InvalidValueError(
                f"the model fails on images of shape {tuple(images.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return seen
