"""Checks that the rooms share: of the nouns' fields, of paths, of kinds of tensors."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from cifarzoo.errors import OptionError, one_of, wrong_kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor

__all__ = [
    "is_dense",
    "require",
    "require_dense",
    "require_name",
    "require_number",
    "require_share",
    "require_text",
    "require_whole",
    "shape_hint",
    "to_builtin",
    "to_path",
]

LONGEST_PATH = 100  # characters that an error shows
LONGEST_VALUE = 1000  # likewise


def require(name: str, value: object, allowed: str, *, met: bool) -> None:
    """Refuse a value unless its condition is met.

    Raises:
        OptionError: that says what is allowed.
    """
    if not met:
        shown = repr(value)
        if len(shown) > LONGEST_VALUE:
            shown = f"{shown[:LONGEST_PATH]}… ({len(shown):,} characters)"
        raise OptionError(f"{name} is {shown}; allowed: {allowed}")


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


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor holds a number for each of its places, as they are."""
    odd = tensor.is_meta or tensor.is_quantized or tensor.is_nested
    return str(tensor.layout) == "torch.strided" and not odd


def require_dense(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is sparse, quantized, nested, or on the meta device.

    Raises:
        OptionError: that says what it is.
    """
    if not is_dense(tensor):
        kind, way_out = f"{tensor.layout}", "tensor.to_dense()"
        if tensor.is_meta:
            kind, way_out = "on the meta device, without numbers", "make it on a real device"
        elif tensor.is_nested:
            kind, way_out = "nested", "torch.stack(tensor.unbind())"
        elif tensor.is_quantized:
            kind, way_out = "quantized", "tensor.dequantize()"
        raise OptionError(f"{name}: a tensor that is {kind}; needed is a dense one: {way_out}")


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


def to_path(name: str, value: object) -> Path:
    """Give a path with the `~` of a home folder replaced, whether or not anything is there.

    Raises:
        OptionError: it is no path, or the system takes none like it: there is no such user, it is
            too long, holds a zero byte, or leads through a folder that may not be looked into.
    """
    if not isinstance(value, str | os.PathLike):
        raise wrong_kind(name, value, "a path")
    try:
        path = Path(value).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        text = os.fspath(value)
        shown = repr(text)
        if len(text) > LONGEST_PATH:
            shown = f"{text[:LONGEST_PATH]!r}… ({len(text):,} characters)"
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, RuntimeError):  # of expanduser
            reason = "there is no such user; a file of that name: give its absolute path"
        raise OptionError(
            f"{name} is {shown}, which is no usable path ({reason}); give another one"
        ) from error
    return path


def shape_hint(shape: tuple[int, ...], channels: int) -> str:
    """Give the way out where images are not (N, channels, H, W); empty where there is no telling.

    Example:
        >>> shape_hint((8, 32, 32, 3), 3)
        '; channels come first: images.permute(0, 3, 1, 2)'
    """
    if len(shape) == 3 and shape[0] == channels:
        return "; add the batch dimension: images[None]"
    if len(shape) == 4 and shape[-1] == channels:
        return "; channels come first: images.permute(0, 3, 1, 2)"
    if len(shape) == 4 and shape[1] in (1, 4):
        return "; make grey or RGBA images RGB first (PIL: image.convert('RGB'))"
    return ""
