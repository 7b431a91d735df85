"""What a network costs, layer by layer: shapes, parameters, multiply-accumulates, receptive fields.

The model runs once on a zero image. Multiply-accumulates (MACs) are half of what
`torch.utils.flop_counter` counts while it does, receptive fields are followed through every
operator that runs, so plain functions between the layers are seen as well.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cifarzoo.arithmetic.tracing import FieldTracker
from cifarzoo.errors import OptionError, ShapeError, one_of

__all__ = ["LayerCost", "WhichName", "count_params", "layer_table"]

WhichName: TypeAlias = Literal["all", "trainable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of `layer_table`.

    Attributes:
        name: as in `model.named_modules()`; the model itself is "".
        kind: the class of the layer.
        output_shape: without the batch dimension; that of the last call if there are several,
            and () if the layer did not run or gave no tensor.
        params: parameters that no row above has counted.
        macs: multiply-accumulates for one image, over all calls, and without those of layers
            inside it that have rows of their own.
        receptive_field: longest side, in pixels of the input, of the area that one element of
            the output can depend on. At most the image: a larger input shows what there is
            beyond its border. None where there is none to give: the layer did not run, its
            output does not depend on the image, the input has no sides, or an operator on the
            way is not known.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    receptive_field: int | None


def count_params(model: nn.Module, *, which: WhichName = "all") -> int:
    """Count the numbers that a model learns; a parameter that is used twice counts once.

    Args:
        model: any module.
        which: "all", or "trainable" for those with `requires_grad`.

    Raises:
        OptionError: not a module, an unknown `which`, or lazy layers that have no size yet.

    Example:
        >>> count_params(nn.Conv2d(3, 32, 5))
        2432
    """
    if which not in get_args(WhichName):
        raise one_of("which", which, get_args(WhichName))
    _check_model(model)
    return sum(p.numel() for p in model.parameters() if which == "all" or p.requires_grad)


def layer_table(
    model: nn.Module, input_size: tuple[int, ...] = (3, 32, 32)
) -> tuple[LayerCost, ...]:
    """List what each layer of a model costs for one image.

    The rows add up to the model: params to `count_params(model)`, macs to half the total of
    `torch.utils.flop_counter`. A row is a module that ran and within which no other one did, in
    the order in which they started. A module with layers inside has a row where it holds
    parameters or does products of its own (a class token, attention), and a module that did not
    run has one where it holds parameters.

    Attention is counted by its products, as the counter does on a GPU; it has no formula for
    the fused kernels of a CPU. What it has no formula for at all (recurrent layers, sums,
    activations, norms) counts as 0. Receptive fields take the largest of parallel paths, and
    leave out the statistics that group and layer norms take over an image.

    The model runs in evaluation mode without gradients on its own device; its mode, its buffers
    and torch's random state are left as they were.

    Args:
        model: any module that takes one batch of images.
        input_size: of one image, (channels, *sides).

    Returns:
        The rows, from input to output.

    Raises:
        OptionError: not a module, or lazy layers that have no size yet.
        ShapeError: input_size is not made of positive ints, or the model cannot take it.

    Example:
        >>> [(row.name, row.params, row.macs) for row in layer_table(nn.Conv2d(3, 8, 1))]
        [('', 32, 24576)]
    """
    _check_model(model)
    images = _zero_image(model, input_size)
    watch = _Watch(model, FieldTracker(images))
    with _as_found(model), _countable_attention(), watch.hooks():
        _run(model, images, watch)
    return tuple(watch.rows())


@dataclass
class _Seen:
    """What was seen of one module while the model ran."""

    macs: int = 0
    output_shape: tuple[int, ...] = ()
    receptive_field: int | None = None


class _Watch:
    """Stand at the entrance and the exit of every module, and read the counter in between."""

    def __init__(self, model: nn.Module, tracker: FieldTracker) -> None:
        self.tracker = tracker
        self.counter = FlopCounterMode(display=False)
        self.modules = dict(model.named_modules())
        self.seen: dict[str, _Seen] = {}
        self.inside: list[str] = [""]
        self.flops = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, module in self.modules.items():
                enter, leave = self._hooks(name)
                stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            yield

    def _hooks(self, name):
        def enter(module: nn.Module, args: object) -> None:
            self._settle()
            self.seen.setdefault(name, _Seen())
            self.inside.append(name)

        def leave(module: nn.Module, args: object, output: object) -> None:
            self._settle()
            self.inside.pop()
            self._look(self.seen[name], output)

        return enter, leave

    def _settle(self) -> None:
        """Give what was counted since the last look to the module that is running."""
        total = self.counter.get_total_flops()
        if total > self.flops:
            self.seen.setdefault(self.inside[-1], _Seen()).macs += (total - self.flops) // 2
        self.flops = total

    def _look(self, seen: _Seen, output: object) -> None:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not tensors:
            return
        shape = tuple(tensors[0].shape)
        seen.output_shape = shape[1:] if shape[:1] == (1,) else shape
        found = self.tracker.field(tensors[0])
        seen.receptive_field = None if found is None else found.receptive_field()

    def rows(self) -> Iterator[LayerCost]:
        counted: set[int] = set()
        unseen = [name for name in self.modules if name not in self.seen]
        for name in [*self.seen, *unseen]:
            module, seen = self.modules[name], self.seen.get(name, _Seen())
            is_layer = name in self.seen and not self._has_layers(name)
            params = 0
            for parameter in module.parameters(recurse=is_layer):
                params += 0 if id(parameter) in counted else parameter.numel()
                counted.add(id(parameter))
            if is_layer or params or seen.macs:
                yield LayerCost(
                    name=name,
                    kind=type(module).__name__,
                    output_shape=seen.output_shape,
                    params=params,
                    macs=seen.macs,
                    receptive_field=seen.receptive_field,
                )

    def _has_layers(self, name: str) -> bool:
        inner = {id(m) for m in self.modules[name].modules() if m is not self.modules[name]}
        return any(id(self.modules[each]) in inner for each in self.seen)


def _run(model: nn.Module, images: Tensor, watch: _Watch) -> None:
    try:
        with watch.tracker, watch.counter:
            model(images)
            watch._settle()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ShapeError(
            f"the model cannot take a zero image of shape {tuple(images.shape)}: {error}; pass "
            "the input_size that it takes, (channels, *sides) without the batch"
        ) from error


def _zero_image(model: nn.Module, input_size: Sequence[int]) -> Tensor:
    try:
        shape = tuple(operator.index(n) for n in input_size)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ShapeError(
            f"input_size is {input_size!r}; needed are the channels and sides of one image, each "
            "1 or more, like (3, 32, 32)"
        )
    held = (t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    like = next(held, torch.zeros(()))
    return torch.zeros((1, *shape), dtype=like.dtype, device=like.device)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        hint = f"; build_model({model!r}) builds one by name" if isinstance(model, str) else ""
        raise OptionError(f"model is {model!r}; needed is a torch.nn.Module{hint}")
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise OptionError(
                f"parameter {name!r} is lazy and has no size yet; run the model on a batch first"
            )


@contextmanager
def _countable_attention() -> Iterator[None]:
    """Let attention run as plain products, which the counter has formulas for."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, and put back modes, buffers and random state."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module, name, buffer, value in buffers:
                buffer.copy_(value)
                module._buffers[name] = buffer
