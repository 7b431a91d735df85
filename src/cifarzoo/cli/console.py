"""Output: results to stdout, messages to stderr, tables, JSON.

File names and messages can contain any character, so those that could control a terminal are
escaped.
"""

from __future__ import annotations

import codecs
import io
import math
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from cifarzoo.display import escape

if TYPE_CHECKING:
    from cifarzoo.recipe import Recipe

__all__ = [
    "escape",
    "interval",
    "log",
    "percent",
    "replace_unencodable",
    "say",
    "show_json",
    "show_table",
    "summarize",
]

_ASCII = {"−": "-", "–": "-", "×": "x", "±": "+/-", "…": "..."}


def replace_unencodable() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, as on Windows."""

    def replace(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        missing = error.object[error.start : error.end]
        return "".join(_ASCII.get(c, "?") for c in missing), error.end

    codecs.register_error("cifarzoo", replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cifarzoo")


def say(text: str = "") -> None:
    """Print a line of results."""
    typer.echo(escape(text))


def log(message: str) -> None:
    """Print a message to stderr, which may have several lines."""
    for line in message.split("\n"):
        typer.echo(escape(line), err=True)


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[str] = ()
) -> None:
    """Print aligned columns, two spaces apart; columns named in `numbers` are right-aligned."""
    from rich.cells import cell_len, set_cell_size  # wide characters take two columns

    lines = [[*map(escape, row)] for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            " " * (width - cell_len(cell)) + cell if name in numbers else set_cell_size(cell, width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def show_json(value: object) -> None:
    """Print dictionaries, lists and the package's records as JSON; NaN in a record becomes null."""
    import json

    from cifarzoo.validation import to_json

    def plain(record: object) -> object:
        return json.loads(to_json(record))

    typer.echo(json.dumps(value, default=plain, allow_nan=False, indent=2))


def percent(fraction: float | None) -> str:
    """Format a fraction, such as "72.51 %"; a missing one is a dash."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f} %"


def interval(bounds: tuple[float, float]) -> str:
    """Format an interval of fractions, such as "71.4 to 73.2 %"."""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def summarize(recipe: Recipe) -> str:
    """Summarize a recipe, such as "Adam, lr 0.001, batch 64, up to 10 epochs"."""
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}[recipe.optimizer]
    limit = "up to " if recipe.early_stopping else ""
    epochs = f"{limit}{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
    return f"{name}, lr {recipe.lr:g}, batch {recipe.batch_size}, {epochs}"
