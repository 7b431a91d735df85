"""Anything that maps images to logits, and copies of modules in evaluation mode."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy
from typing_extensions import TypeIs

from cifarzoo.errors import InvalidTypeError

__all__ = [
    "Classifier",
    "Classify",
    "OnnxSession",
    "as_classify",
    "evaluation_copy",
    "evaluation_mode",
    "is_classifier",
]

_ONNX_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}


@runtime_checkable
class OnnxSession(Protocol):
    """The part of `onnxruntime.InferenceSession` that is used."""

    def get_inputs(self) -> Sequence[Any]:
        """Return the inputs, with a name, a type and a shape each."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Return the outputs for inputs by name."""


Classify: TypeAlias = Callable[[Tensor], Tensor | NDArray[Any]]

Classifier: TypeAlias = nn.Module | ExportedProgram | OnnxSession | Classify
"""Anything that maps images (N,3,H,W) to logits (N,K).

A module, such as one that is compiled, scripted or traced; a program of `torch.export`, or its
`module()`; a session of ONNX Runtime; or a function from tensors to tensors or arrays.
"""


def is_classifier(value: object) -> TypeIs[Classifier]:
    """Return whether a value is a `Classifier`, as far as can be seen without calling it."""
    return not isinstance(value, type) and (callable(value) or isinstance(value, OnnxSession))


def as_classify(model: Classifier) -> nn.Module | Classify:
    """Return a module, or a function that accepts any number of images on any device.

    Images for a program or session with a fixed batch size are divided, and the last part is filled
    up with copies of its last image.

    Raises:
        InvalidTypeError: the model is not a `Classifier`.
    """
    if not is_classifier(model):
        raise InvalidTypeError(
            f"model is a {type(model).__name__}: expected a torch.nn.Module, an exported program, "
            "an ONNX session, or a function from images to logits"
        )
    if isinstance(model, ExportedProgram):
        model = model.module()
    if isinstance(model, GraphModule) and hasattr(model, "range_constraints"):
        return partial(_run_exported, model)
    if isinstance(model, OnnxSession) and not isinstance(model, nn.Module):
        return partial(_run_onnx, model)
    return model


def _run_exported(program: GraphModule, images: Tensor) -> Tensor:
    declared = next(node for node in program.graph.nodes if node.op == "placeholder").meta["val"]
    size, is_fixed = declared.shape[0], True
    if isinstance(size, torch.SymInt):
        most = vars(program)["range_constraints"][size.node.expr].upper
        size, is_fixed = (int(most) if most.is_Integer else None), False
    images = _as_declared(images, declared.dtype).to(declared.device)
    return _in_parts(program, images, size, is_fixed=is_fixed)


def _run_onnx(session: OnnxSession, images: Tensor) -> Tensor:
    (declared, *_) = session.get_inputs()
    images = _as_declared(images, _ONNX_DTYPES.get(declared.type, images.dtype)).cpu()

    def run(part: Tensor) -> Tensor:
        logits, *_ = session.run(None, {declared.name: part.contiguous().numpy()})
        return torch.from_numpy(logits)

    size = declared.shape[0]  # the name of a size that is not fixed
    return _in_parts(run, images, size if isinstance(size, int) else None)


def _as_declared(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert images between uint8 and floats in [0, 1]."""
    if dtype == torch.uint8 and images.is_floating_point():
        images = (images * 255).round()
    elif dtype != torch.uint8 and images.dtype == torch.uint8:
        images = images / 255
    return images.to(dtype)


def _in_parts(
    classify: Callable[[Tensor], Tensor], images: Tensor, size: int | None, *, is_fixed: bool = True
) -> Tensor:
    """Classify at most, or exactly, `size` images at a time."""
    if size is None:
        return classify(images)
    found = []
    for part in torch.split(images, size):
        n = len(part)
        if is_fixed and n < size:
            part = torch.cat([part, part[-1:].expand(size - n, *part.shape[1:])])
        found.append(classify(part)[:n])
    return torch.cat(found)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module | Classify) -> Iterator[None]:
    """Switch to evaluation mode without gradients; restore each module's mode afterwards.

    Nothing is written to a model in evaluation mode. Functions have no mode.
    """
    modules = _with_mode(model) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        if any(modes):
            _set_mode(modules, [False] * len(modes))
        with torch.inference_mode(mode=False), torch.no_grad():
            yield
    finally:
        if any(modes):
            _set_mode(modules, modes)


def _with_mode(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "training")]  # not frozen ones


def _set_mode(modules: Sequence[nn.Module], modes: Sequence[bool]) -> None:
    with contextlib.suppress(NotImplementedError):  # raised by exported modules
        modules[0].train(modes[0])
    for module, mode in zip(modules, modes, strict=True):
        module.training = mode


def evaluation_copy(model: nn.Module) -> nn.Module:
    """Return a model in evaluation mode that shares the tensors and hooks of another.

    Other threads can use the other model in training mode at the same time: it is not modified. A
    model in evaluation mode is returned itself, as is one that cannot be copied. If a module has a
    `train` or `eval` of its own, which may change tensors, they are copied as well.
    """
    is_training = any(module.training for module in _with_mode(model))
    if not is_training or any(map(is_lazy, model.parameters())):
        return model
    model = getattr(model, "_orig_mod", model)  # a copy would be compiled again
    modules = list(model.modules())
    attributes = [item for module in modules for item in vars(module).items()]
    shared = [value for key, value in attributes if key.endswith("_hooks") or _is_plain(value)]
    if not any(map(_has_own_mode, modules)):
        shared += [*model.parameters(), *model.buffers()]
    try:
        return copy.deepcopy(model, {id(value): value for value in shared}).eval()
    except (RuntimeError, TypeError):  # such as for tensors with a gradient function
        return model


def _is_plain(value: object) -> bool:
    """Return whether an attribute holds no module, such as a lock or the maps of the last call."""
    may_hold_modules = isinstance(value, nn.Module | dict | list | tuple) or callable(value)
    return isinstance(value, Tensor) or not may_hold_modules


def _has_own_mode(module: nn.Module) -> bool:
    kind = type(module)
    is_plain = kind.train is nn.Module.train and kind.eval is nn.Module.eval
    return not is_plain or isinstance(module, torch.jit.ScriptModule)
