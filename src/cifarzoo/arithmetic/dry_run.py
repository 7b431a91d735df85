"""Run a model once on a zero image, watch it, and leave it as it was."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cifarzoo.arithmetic.receptive import Field, FieldTracker
from cifarzoo.errors import ShapeError

__all__ = ["Seen", "dry_run"]

Enter: TypeAlias = Callable[[nn.Module, object], None]
Leave: TypeAlias = Callable[[nn.Module, object, object], None]


@dataclass
class Seen:
    """What was seen of one module while the model ran.

    Attributes:
        macs: multiply-accumulates over all calls, without those of modules inside it.
        output_shape: of the last call, without the batch dimension.
        field: what the last call's output depends on; None if that is not known.
    """

    macs: int = 0
    output_shape: tuple[int, ...] = ()
    field: Field | None = None

    @property
    def receptive_field(self) -> int | None:
        """Longest side of what one element sees, in pixels; None if it has none."""
        return None if self.field is None else self.field.receptive_field()


class _Watch:
    """Stand at the entrance and the exit of every module, and read the counter in between."""

    def __init__(self, model: nn.Module, tracker: FieldTracker) -> None:
        self.tracker = tracker
        self.counter = FlopCounterMode(display=False)
        self.modules = dict(model.named_modules())
        self.seen: dict[str, Seen] = {}
        self.inside: list[str] = [""]
        self.flops = 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch the modules; nothing is left on them afterwards."""
        with ExitStack() as stack:
            for name, module in self.modules.items():
                enter, leave = self._hooks(name)
                stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
                stack.callback(module.register_forward_hook(leave).remove)
            yield

    def _hooks(self, name: str) -> tuple[Enter, Leave]:
        def enter(module: nn.Module, args: object) -> None:
            self.settle()
            self.seen.setdefault(name, Seen())
            self.inside.append(name)

        def leave(module: nn.Module, args: object, output: object) -> None:
            self.settle()
            self.inside.pop()
            self._look(self.seen[name], output)

        return enter, leave

    def settle(self) -> None:
        """Give what was counted since the last look to the module that is running."""
        total = self.counter.get_total_flops()
        if total > self.flops:
            self.seen.setdefault(self.inside[-1], Seen()).macs += (total - self.flops) // 2
        self.flops = total

    def _look(self, seen: Seen, output: object) -> None:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not tensors:
            return
        shape = tuple(tensors[0].shape)
        seen.output_shape = shape[1:] if shape[:1] == (1,) else shape
        seen.field = self.tracker.field(tensors[0])


def dry_run(model: nn.Module, input_size: Sequence[int]) -> dict[str, Seen]:
    """Run a model on a zero image and say what was seen of each module.

    Args:
        model: any module that takes one batch of images.
        input_size: of one image, (channels, *sides).

    Returns:
        By name, in the order in which they started, the modules that ran.

    Raises:
        ShapeError: input_size is not made of positive ints, or the model cannot take it.
    """
    images = _zero_image(model, input_size)
    watch = _Watch(model, FieldTracker(images))
    with _as_found(model), _countable_attention(), watch.hooks():
        _run(model, images, watch)
    return watch.seen


def _run(model: nn.Module, images: Tensor, watch: _Watch) -> None:
    try:
        with watch.tracker, watch.counter:
            model(images)
            watch.settle()
    except torch.cuda.OutOfMemoryError:
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
    found = [(module, module.training, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_meta]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
        try:
            model.eval()
            yield
        finally:
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
            for module, mode, buffers in found:
                module.training = mode
                module._buffers.clear()
                module._buffers.update(buffers)
