"""Every error that cifarzoo raises on purpose.

Each one derives from `CifarZooError`, so one `except` catches them all, and from the builtin that
other libraries raise in its place, so code that catches `ValueError` goes on working.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from cifarzoo.training.history import History

__all__ = [
    "CheckpointError",
    "CifarZooError",
    "DataCorruptError",
    "DataNotFoundError",
    "DownloadError",
    "EmptyLoaderError",
    "LabelError",
    "MissingExtraError",
    "NonFiniteLossError",
    "OptionError",
    "RangeError",
    "ResultsError",
    "ShapeError",
    "UnknownModelError",
    "WeightsError",
    "differences",
    "one_of",
    "some_of",
    "suggest",
    "wrong_kind",
]

TOLD_BY_THE_FIRST = "found by the first process"  # a note on an error that others raise as well
LONGEST = 50  # characters of a value that an error shows


class CifarZooError(Exception):
    """The parent of every error that cifarzoo raises on purpose."""


class UnknownModelError(CifarZooError, KeyError):
    """No card has that name; the message gives the closest one."""

    def __str__(self) -> str:  # KeyError shows its argument's repr, quotes and all
        return str(self.args[0])


class OptionError(CifarZooError, ValueError):
    """An argument or setting has a value that is not allowed; the message says what is."""


class ShapeError(CifarZooError, ValueError):
    """A tensor or a size does not have the shape that is needed."""


class RangeError(CifarZooError, ValueError):
    """Pixel values are outside the range that is documented: uint8, or float in [0, 1]."""


class LabelError(CifarZooError, ValueError):
    """Labels are not integers in 0..num_classes-1."""


class EmptyLoaderError(CifarZooError, ValueError):
    """A loader gave no batch."""


class DataNotFoundError(CifarZooError, FileNotFoundError):
    """The data is not where it was looked for; the message lists the places and the ways out."""


class DataCorruptError(CifarZooError, ValueError):
    """A data file is not the published one: truncated, swapped or changed."""


class DownloadError(CifarZooError, OSError):
    """A download failed; the message says what was received and what else can be tried."""


class WeightsError(CifarZooError, ValueError):
    """Weights cannot be found, do not have the recorded hash, or do not fit the model."""


class CheckpointError(CifarZooError, RuntimeError):
    """A checkpoint cannot be read, or belongs to another model, recipe or version."""


class NonFiniteLossError(CifarZooError, ArithmeticError):
    """The loss became NaN or infinite; the model holds its best state so far.

    Attributes:
        history: the run up to its last good check.
        model: in its best state, where `train` built it; None where the caller of `fit` has it.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message, history)  # both, so that the error can be pickled
        self.history = history
        self.model: nn.Module | None = None

    def __str__(self) -> str:
        return str(self.args[0])


class ResultsError(CifarZooError, ValueError):
    """A recorded result cannot be read or written, or belongs to another experiment."""


class MissingExtraError(CifarZooError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


def suggest(value: str, allowed: Iterable[str]) -> str:
    """Give `"; did you mean 'x'?"` for the closest of `allowed`, or an empty string.

    Example:
        >>> suggest("resent20", ["resnet20", "vgg11_bn"])
        "; did you mean 'resnet20'?"
    """
    names = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(value.lower(), names, n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def some_of(names: Sequence[str], most: int = 6) -> str:
    """List the first few names, and say how many more there are.

    Example:
        >>> some_of(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"


def differences(
    before: Mapping[str, object],
    now: Mapping[str, object],
    *,
    words: tuple[str, str] = ("in the file", "now"),
) -> list[str]:
    """Write in what the settings in a file and those asked for differ; empty where they are alike.

    Args:
        before: what the file says, by name. Settings within settings, as in a recipe, get names
            of their own; what is missing counts as None.
        now: what is asked for.
        words: that follow the value before, and the one now.

    Example:
        >>> differences({"seed": 0, "recipe": {"lr": 1, "epochs": 2}}, {"recipe": {"lr": 1}})
        ['recipe.epochs: 2 in the file, None now', 'seed: 0 in the file, None now']
    """
    stored, wanted = _flat(before), _flat(now)
    return [
        f"{name}: {stored.get(name)!r} {words[0]}, {wanted.get(name)!r} {words[1]}"
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name) != wanted.get(name)
    ]


def _flat(value: object, name: str = "") -> dict[str, object]:
    """Give every setting a name of its own: {"recipe": {"lr": 1}} is {"recipe.lr": 1}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        return {name: value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{name}.{key}" if name else str(key))
    return flat


def wrong_kind(what: str, value: object, needed: str) -> OptionError:
    """Build the error for an argument that is another kind of thing.

    Example:
        >>> print(wrong_kind("model", "resnet20", "a torch.nn.Module"))
        model is 'resnet20' (str); needed is a torch.nn.Module
    """
    plain = isinstance(value, str | int | float | None) and len(repr(value)) < LONGEST
    shown = f"{value!r} ({type(value).__name__})" if plain else f"a {type(value).__name__}"
    return OptionError(f"{what} is {shown}; needed is {needed}")


def one_of(what: str, value: object, allowed: Iterable[str]) -> OptionError:
    """Build the error for a value that must be one of a few names.

    Example:
        >>> print(one_of("schedule", "cosin", ["constant", "cosine"]))
        unknown schedule 'cosin'; did you mean 'cosine'? Allowed: constant, cosine
    """
    names = list(allowed)
    hint = suggest(value, names) if isinstance(value, str) else ""
    separator = " " if hint else "; "
    return OptionError(
        f"unknown {what} {value!r}{hint}{separator}{'Allowed' if hint else 'allowed'}: "
        f"{', '.join(names)}"
    )
