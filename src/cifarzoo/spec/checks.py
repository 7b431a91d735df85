"""What the nouns check about their fields."""

from __future__ import annotations

import re
from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, get_args

from cifarzoo.errors import OptionError, one_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "require",
    "require_name",
    "require_number",
    "require_share",
    "require_text",
    "require_whole",
    "to_builtin",
]


def require(name: str, value: object, allowed: str, *, met: bool) -> None:
    """Refuse a value unless its condition is met.

    Raises:
        OptionError: that says what is allowed.
    """
    if not met:
        raise OptionError(f"{name} is {value!r}; allowed: {allowed}")


def require_whole(name: str, value: object, low: int, high: float, allowed: str) -> None:
    """Refuse what is not a whole number from `low` to `high`.

    Raises:
        OptionError: that says what is allowed.
    """
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    in_range = isinstance(value, Integral) and low <= int(value) <= high
    require(name, value, f"whole numbers, {allowed}", met=whole and in_range)


def require_number(name: str, value: object, allowed: str) -> None:
    """Refuse what is not a real number.

    Raises:
        OptionError: that says what is allowed.
    """
    require(name, value, allowed, met=isinstance(value, Real) and not isinstance(value, bool))


def to_builtin(each: DataclassInstance) -> None:
    """Replace numbers of other kinds, such as numpy's, which files of a run could not hold."""
    for name in (field.name for field in fields(each)):
        value: object = getattr(each, name)
        if isinstance(value, bool):
            continue
        if isinstance(value, Integral):
            object.__setattr__(each, name, int(value))
        elif isinstance(value, Real):
            object.__setattr__(each, name, float(value))


def require_name(name: str, value: str, alias: object) -> None:
    """Refuse what is not one of the names of a `Literal`.

    Raises:
        OptionError: that says what is allowed.
    """
    if value not in get_args(alias):
        raise one_of(name, value, get_args(alias))


def require_share(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        OptionError: that says what is allowed.
    """
    if value is None and optional:
        return
    allowed = "0 to 1, or None" if optional else "0 to 1"
    require_number(name, value, allowed)
    require(name, value, allowed, met=isinstance(value, Real) and 0 <= float(value) <= 1)


def require_text(name: str, value: object, pattern: str, allowed: str) -> None:
    """Refuse what is not text of a pattern, from end to end.

    Raises:
        OptionError: that says what is allowed.
    """
    found = isinstance(value, str) and re.fullmatch(pattern, value) is not None
    require(name, value, allowed, met=found)
