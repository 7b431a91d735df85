"""Follow fields through a forward pass, operator by operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifarzoo.arithmetic.receptive import combining, rearranging, sliding
from cifarzoo.arithmetic.receptive.calls import Call, Fields, Known, Rule
from cifarzoo.arithmetic.receptive.fields import Field

__all__ = ["FieldTracker"]

RULES: dict[str, Rule] = {**sliding.RULES, **rearranging.RULES, **combining.RULES}


class FieldTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, note the field of every tensor that is computed from one image batch.

    A dispatch mode sees every operator that runs, whether a layer called it or a plain function,
    so residual sums, functional pooling and reshapes are followed as well as layers are. An
    operator without a rule leaves its result without a field, never with a wrong one.

    Args:
        images: the batch (N,C,*sides) that the pixels are counted in.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: Known = {}
        self._note(images, Field.of_image(images.shape))

    def field(self, tensor: Tensor) -> Field | None:
        """Give a tensor's field; None if it has none, or does not depend on the images."""
        return self._known.get(id(tensor), (tensor, None))[1]

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Run the operator and note the fields of what it returns."""
        out: object = func(*args, **(kwargs or {}))
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        depends = any(id(leaf) in self._known for leaf in tree_leaves((args, kwargs)))
        if outputs and depends and isinstance(func, OpOverload):
            call = Call.of(func, args, kwargs or {}, outputs, self._known)
            self._follow(func, call)
        return out

    def _follow(self, func: OpOverload, call: Call) -> None:
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name in combining.CONSTANT:
            for tensor in call.outputs:
                self._known.pop(id(tensor), None)
            return
        fields = [*_fields(name, func, call), *[None] * len(call.outputs)]
        for tensor, field in zip(call.outputs, fields, strict=False):
            if field is not None and field.shape != tuple(tensor.shape):
                field = None
            if func._schema.is_mutable and tensor._base is not None:
                self._write_through(tensor, field)
            self._note(tensor, field)

    def _write_through(self, view: Tensor, field: Field | None) -> None:
        """Forget the field of the tensor whose view was written to, if that changes it."""
        if view._base is not None and field != self.field(view):
            self._note(view._base, None)

    def _note(self, tensor: Tensor, field: Field | None) -> None:
        self._known[id(tensor)] = (tensor, field)  # kept, so that no other one gets its id


def _fields(name: str, func: OpOverload, call: Call) -> Fields:
    if None in call.fields():
        return []
    elementwise = torch.Tag.pointwise in func.tags
    rule = RULES.get(name, combining.pointwise if elementwise else None)
    try:
        return [] if rule is None else rule(call)
    except (LookupError, TypeError, ValueError):  # another torch version's arguments
        return []
