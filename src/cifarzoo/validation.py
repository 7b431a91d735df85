"""Validation by pydantic against annotated types, with cifarzoo's own errors.

`settings` makes a frozen dataclass whose fields are checked when an instance is created; `validate`
checks a single argument.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Hashable
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from typing_extensions import dataclass_transform

from cifarzoo.errors import CifarZooError, InvalidTypeError, InvalidValueError, suggest

__all__ = [
    "ROUNDING",
    "Fraction",
    "Name",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "Seed",
    "Tag",
    "UnitInterval",
    "expand_path",
    "from_json",
    "settings",
    "stable_repr",
    "to_json",
    "validate",
]

T = TypeVar("T")

_SHORT = 50  # characters of a value in an error

ROUNDING = 1 / 64  # by which pixels may exceed [0, 1]: two steps of bfloat16 above 1


def _require_number(value: object) -> object:
    """Reject what pydantic would convert: `True` and "3"."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


_number = BeforeValidator(_require_number)

PositiveInt = Annotated[int, _number, Field(ge=1)]
NonNegativeInt = Annotated[int, _number, Field(ge=0)]
Seed = Annotated[int, _number, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, _number, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, _number, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, _number, Field(ge=0, lt=1)]  # in [0, 1)
UnitInterval = Annotated[float, _number, Field(ge=0, le=1)]  # in [0, 1]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Tag = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]

_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid", ser_json_inf_nan="null")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose fields are checked against their annotations.

    `dataclasses.replace` checks them again. A wrong type raises `InvalidTypeError`, a wrong value
    `InvalidValueError`. NumPy numbers are converted to Python numbers. `repr` lists the fields that
    differ from their defaults.
    """
    if "__repr__" not in vars(cls):
        cls.__repr__ = _repr_of_changes  # type: ignore[method-assign]
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    checked_init = made.__init__

    @functools.wraps(checked_init)
    def __init__(self: object, *args: object, **values: object) -> None:  # noqa: N807
        try:
            checked_init(self, *args, **values)
        except ValidationError as error:
            raise _own_error(error, cls.__name__, made) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def _repr_of_changes(self: Any) -> str:  # noqa: ANN401 - any settings
    changes = []
    for field in dataclasses.fields(self):
        default, value = field.default, getattr(self, field.name)
        default = default.default if isinstance(default, FieldInfo) else default
        if field.repr and value != default:
            changes.append(f"{field.name}={value!r}")
    return f"{type(self).__qualname__}({', '.join(changes)})"


@functools.cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # type: ignore[arg-type]


def validate(name: str, value: T, kind: Hashable) -> T:
    """Return an argument converted to `kind`, or raise an error that names it.

    Args:
        name: name of the argument, for the error.
        value: value of the argument.
        kind: annotated type, such as `PositiveInt`.

    Raises:
        InvalidTypeError: the type is wrong.
        InvalidValueError: the value is not accepted.

    Example:
        >>> validate("batch_size", 64, PositiveInt)
        64
    """
    try:
        return _adapter(kind).validate_python(value)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise _own_error(error, name) from None


def to_json(value: object) -> str:
    """Return a settings object as indented JSON; NaN and infinity become null."""
    return TypeAdapter(type(value)).dump_json(value, indent=1).decode() + "\n"


def from_json(kind: type[T], text: str | bytes) -> T:
    """Read what `to_json` wrote.

    Raises:
        InvalidTypeError: a field has the wrong type, is missing or is unknown.
        InvalidValueError: the text is not JSON, or a value is not accepted.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise _own_error(error, kind.__name__, kind) from None


def _own_error(error: ValidationError, owner: str, cls: Any = None) -> CifarZooError:  # noqa: ANN401
    """Convert pydantic's first error into a cifarzoo error with a single line."""
    first = error.errors(include_url=False)[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, CifarZooError):  # by a __post_init__
        return raised
    kind, value = first["type"], first["input"]
    parts = [str(part) for part in first["loc"]]
    where = ".".join(parts if cls is not None else [owner, *parts])
    if kind == "unexpected_keyword_argument":
        hint = suggest(where, getattr(cls, "__dataclass_fields__", ()))
        return InvalidTypeError(f"{owner} has no field {where!r}{hint}")
    if kind == "unexpected_positional_argument":
        return InvalidTypeError(f"{owner} takes keyword arguments only")
    if kind == "missing":
        return InvalidTypeError(f"{owner} needs {where!r}")
    expected = first["msg"].replace("Input should be ", "expected ", 1)
    expected = re.sub(r"^expected (greater|less)", r"expected a number \1", expected)
    shown = repr(value)
    shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
    hint = ""
    if kind == "literal_error":
        hint = suggest(value, re.findall(r"'([^']*)'", first["ctx"]["expected"]))
    is_type = kind.endswith("_type") or kind in ("is_instance_of", "int_from_float", "int_parsing")
    made = InvalidTypeError if is_type else InvalidValueError
    return made(f"{where or owner} is {shown}: {expected}{hint}")


def stable_repr(value: object) -> str:
    """Return `repr` without addresses in memory, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def expand_path(name: str, value: str | Path) -> Path:
    """Return a path with `~` expanded, whether or not it exists.

    Raises:
        InvalidTypeError: the value is not a path.
        InvalidValueError: the path is invalid.
    """
    try:
        path = Path(value).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except TypeError:
        shown = repr(value) if len(repr(value)) < _SHORT else f"a {type(value).__name__}"
        raise InvalidTypeError(f"{name} is {shown}: expected a path") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidValueError(f"{name} is {str(value)[:100]!r}: invalid path ({error})") from None
    return path
