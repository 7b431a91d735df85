"""One call of an operator, and what a rule for it looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor
from torch.utils._pytree import tree_leaves

from cifarzoo.arithmetic.receptive.fields import Field

if TYPE_CHECKING:
    from torch._ops import OpOverload

__all__ = ["Call", "Fields", "Known", "Rule", "of_source"]

Known: TypeAlias = dict[int, tuple[Tensor, Field | None]]
Fields: TypeAlias = Sequence[Field | None]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator.

    Attributes:
        arguments: by the names of the operator's schema, defaults included and last.
        outputs: the tensors that it returned.
        known: by id, each tensor that depends on the images and its field, or None.
    """

    arguments: dict[str, Any]
    outputs: list[Tensor]
    known: Known

    @classmethod
    def of(
        cls,
        func: OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: list[Tensor],
        known: Known,
    ) -> Call:
        """Give the arguments the names that they have in the schema."""
        schema = func._schema.arguments
        given = dict(zip((each.name for each in schema), args, strict=False)) | kwargs
        defaults = {each.name: each.default_value for each in schema if each.has_default_value()}
        missing = {name: value for name, value in defaults.items() if name not in given}
        return cls(given | missing, outputs, known)

    @property
    def shape(self) -> tuple[int, ...]:
        """The first output's shape."""
        return tuple(self.outputs[0].shape)

    def fields(self, name: str | None = None) -> Fields:
        """Give the fields of all inputs, or those in one argument, that depend on the images."""
        leaves = tree_leaves(self.arguments if name is None else self.arguments.get(name))
        return [self.known[id(leaf)][1] for leaf in leaves if id(leaf) in self.known]

    def field(self, name: str) -> Field | None:
        """Give the field of one argument; None if it does not depend on the images."""
        return next(iter(self.fields(name)), None)

    def integer(self, name: str) -> int:
        """Give an argument that is an int; 0 for None."""
        return int(self.arguments[name] or 0)

    def integers(self, name: str) -> list[int]:
        """Give an argument that is one int or several; none for None."""
        value = self.arguments[name]
        return [value] if isinstance(value, int) else list(value or [])

    def sizes(self, name: str) -> tuple[int, ...]:
        """Give the shape of an argument that is a tensor."""
        return tuple(self.arguments[name].shape)


Rule: TypeAlias = Callable[[Call], Fields]


def of_source(rule: Callable[[Field, Call], Field]) -> Rule:
    """Make a rule for operators that transform one tensor, their first argument."""

    def wrapped(call: Call) -> Fields:
        field = call.field(next(iter(call.arguments)))
        return [] if field is None else [rule(field, call)] * len(call.outputs)

    return wrapped
