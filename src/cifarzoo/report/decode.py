"""From plain JSON values back to frozen dataclasses, checked all the way down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = ["decode"]

T = TypeVar("T")
Hint: TypeAlias = Any  # typing has no type for the forms that an annotation can have


def decode(cls: type[T], value: object, *, where: str = "") -> T:
    """Build a dataclass from what `json.loads` gives for its `asdict`.

    A field that is missing takes its default, so a class may gain fields.

    Args:
        cls: a dataclass of numbers, strings, None, literals, tuples, mappings with string keys,
            unions of those, and other dataclasses.
        value: a mapping.
        where: what the mapping is called in errors.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.
    """
    name = where or cls.__name__
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {_short(value)}; needed is an object")
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(value.keys() - known.keys())
    if unknown:
        raise ValueError(f"{name} has unknown fields: {', '.join(unknown)}")
    given: dict[str, Any] = {}
    for key, field in known.items():
        path = f"{where}.{key}" if where else key
        if key in value:
            given[key] = _decoded(hints[key], value[key], path)
        elif field.default is MISSING:
            raise ValueError(f"{path} is missing")
    return cls(**given)


def _decoded(hint: Hint, value: object, where: str) -> object:
    origin: Hint = get_origin(hint)
    args = get_args(hint)
    if origin in (Union, UnionType):
        return _any_of(args, value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, where=where)
    if origin is tuple:
        return _tuple(args, value, where)
    if origin in (dict, Mapping):
        return _mapping(args[1], value, where)
    allowed = value in args if origin is Literal else _is_plain(hint, value)
    if not allowed:
        needed = ", ".join(map(repr, args)) if origin is Literal else hint.__name__
        raise ValueError(f"{where} is {_short(value)}; needed: {needed}")
    return float(value) if hint is float and isinstance(value, int) else value


def _is_plain(hint: Hint, value: object) -> bool:
    if isinstance(value, bool):
        return hint is bool  # to Python a bool is an int
    return isinstance(value, (int, float) if hint is float else hint)


def _any_of(hints: tuple[Hint, ...], value: object, where: str) -> object:
    """Decode an optional value; no other unions are in use."""
    if value is None and NoneType in hints:
        return None
    (hint,) = (hint for hint in hints if hint is not NoneType)
    return _decoded(hint, value, where)


def _tuple(args: tuple[Hint, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is {_short(value)}; needed is a list")
    hints = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(hints) != len(value):
        raise ValueError(f"{where} has {len(value)} values; needed are {len(hints)}")
    pairs = enumerate(zip(hints, value, strict=True))
    return tuple(_decoded(hint, item, f"{where}[{i}]") for i, (hint, item) in pairs)


def _mapping(hint: Hint, value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_short(value)}; needed is an object")
    return {key: _decoded(hint, item, f"{where}.{key}") for key, item in value.items()}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
