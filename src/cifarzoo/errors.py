"""The errors that cifarzoo raises on purpose.

Each derives from `CifarZooError`, so that one `except` catches them all, and from the built-in
exception that other libraries raise in the same situation, such as `ValueError`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from torch import nn

    from cifarzoo.record import History
    from cifarzoo.run import Run

__all__ = [
    "CheckpointError",
    "CifarZooError",
    "DataCorruptError",
    "DataNotFoundError",
    "DownloadError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingExtraError",
    "NonFiniteLossError",
    "RunError",
    "ScoreError",
    "WeightsError",
    "suggest",
    "unknown",
]


class CifarZooError(Exception):
    """Base class of all errors raised by cifarzoo."""


class InvalidTypeError(CifarZooError, TypeError):
    """An argument has the wrong type."""


class InvalidValueError(CifarZooError, ValueError):
    """An argument has a value or shape that is not accepted."""


class DataNotFoundError(CifarZooError, FileNotFoundError):
    """The data set was not found; the message lists the places that were searched."""


class DataCorruptError(CifarZooError, ValueError):
    """A data file differs from the published one."""


class DownloadError(CifarZooError, OSError):
    """A download failed."""


class WeightsError(CifarZooError, ValueError):
    """Weights cannot be found, do not have the recorded hash, or do not fit the model."""


class RunError(CifarZooError, ValueError):
    """The record of a run cannot be read, or belongs to another run."""


class CheckpointError(CifarZooError, RuntimeError):
    """A checkpoint cannot be read or written, or belongs to another run."""


class NonFiniteLossError(CifarZooError, ArithmeticError):
    """The loss became NaN or infinite.

    Attributes:
        history: the run up to its last finite check.
        model: the model in its best state if `train` built it, otherwise None.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message, history)  # both, so that the error can be pickled
        self.history = history
        self.model: nn.Module | None = None

    @override
    def __str__(self) -> str:
        return str(self.args[0])


class ScoreError(CifarZooError, RuntimeError):
    """A model was trained, but could not be scored.

    Attributes:
        run: the run, without the scores that failed.
    """

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message, run)  # both, so that the error can be pickled
        self.run = run

    @override
    def __str__(self) -> str:
        return str(self.args[0])


class MissingExtraError(CifarZooError, ImportError):
    """An optional dependency is not installed."""


def suggest(value: object, options: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest options, or an empty string.

    Case and punctuation do not count. Options that contain the value are preferred to similar ones.

    Example:
        >>> suggest("resent20", ["resnet20", "vgg11_bn"])
        "; did you mean 'resnet20'?"
        >>> suggest("resnet18", ["preact_resnet18", "resnet18_transfer", "resnet20"])
        "; did you mean 'preact_resnet18' or 'resnet18_transfer'?"
    """
    meant = _letters(value)
    names = {option: _letters(option) for option in options}
    ratios = {o: difflib.SequenceMatcher(None, name, meant).ratio() for o, name in names.items()}
    best = max(ratios.values(), default=0.0)
    close = [option for option in ratios if ratios[option] == best >= 0.6]
    if best < 0.9 and len(meant) >= 3:  # no plain misspelling
        close = [option for option, name in names.items() if meant in name] or close
    if not close:
        return ""
    close = sorted(close, key=ratios.__getitem__, reverse=True)[:5]
    return f"; did you mean {' or '.join(map(repr, close))}?"


def _letters(name: object) -> str:
    return re.sub(r"[\W_]", "", str(name).lower())


def unknown(
    what: str, value: object, options: Iterable[str], *, hint: str = ""
) -> InvalidValueError:
    """Return the error for a value that is none of the accepted names.

    Example:
        >>> print(unknown("schedule", "cosin", ["constant", "cosine"]))
        unknown schedule 'cosin', expected one of: constant, cosine; did you mean 'cosine'?
    """
    names = list(options)
    hint = hint and f"; {hint}"
    expected = f"expected one of: {', '.join(names)}{hint}{suggest(value, names)}"
    return InvalidValueError(f"unknown {what} {value!r}, {expected}")
