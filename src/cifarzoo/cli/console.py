"""Everything that is printed goes through here: lines, remarks, tables, JSON.

File names and messages may hold anything, so nothing is read as markup, and whatever could steer
a terminal (control characters, reversed text) is shown as an escape.
"""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "INTERRUPTED",
    "columns",
    "is_terminal",
    "remark",
    "say",
    "show_json",
    "show_table",
    "survive_odd_encodings",
    "visible",
]

INTERRUPTED = 130  # exit code: what a shell shows for a command that Ctrl-C ended
_LEAST = 7  # columns for prose
_WIDE = 10_000  # columns; what is not a terminal has no edge to wrap at


def visible(text: str) -> str:
    r"""Write every character that cannot be seen as an escape; newlines stay.

    Example:
        >>> visible("zebra\x1b[31m.jpg")
        'zebra\\x1b[31m.jpg'
    """
    return "".join(c if _is_seen(c) else c.encode("unicode_escape").decode() for c in text)


def _is_seen(character: str) -> bool:
    is_space = unicodedata.category(character) == "Zs"  # no-break spaces among them
    return character.isprintable() or is_space or character == "\n"


def one_line(text: str) -> str:
    r"""Write a name so that it stays on its line: `visible`, newlines included."""
    return visible(text).replace("\n", "\\n")


def survive_odd_encodings() -> None:
    """Let a stream that cannot encode a character show a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def is_terminal() -> bool:
    """Whether remarks go to somebody who looks on, not to a file."""
    return sys.stderr.isatty()


def _console(*, to_stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=to_stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def columns() -> int:
    """Give how many characters a line of results can have; a file's line has no end."""
    return _console().width


def say(message: str = "", *, style: str | None = None) -> None:
    """Print a result."""
    _console().print(visible(message), style=style, soft_wrap=True)


def remark(message: str, *, style: str | None = None) -> None:
    """Print what is not a result, to stderr: what is going on, an error, what to do next."""
    _console(to_stderr=True).print(visible(message), style=style, soft_wrap=True)


def show_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    numbers: Collection[str] = (),
    prose: Collection[str] = (),
) -> None:
    """Print a table: dressed in a terminal, else plain columns two spaces apart.

    A terminal that is too narrow gets cells of several lines: prose first, then whatever is no
    number; one that is too narrow for the numbers gets plain columns. Nothing is cut off.

    Args:
        header: names of the columns.
        rows: cells, as many as there are names in the header.
        title: a line above it.
        numbers: names of the columns that are flush right.
        prose: names of the columns that are the first to be broken into lines.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    console = _console()
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    dressed = console.is_terminal and console.width >= 2 * len(header) + sum(
        width if name in numbers else _LEAST for name, width in zip(header, widths, strict=True)
    )
    if not dressed:
        console.width = _WIDE
    table = Table(
        box=box.SIMPLE_HEAD if dressed else None, pad_edge=False, header_style="bold", padding=0
    )
    table.padding = (0, 1 if dressed else 2, 0, 0)  # a dressed one has a blank between columns
    fixed = [_LEAST if name in prose else w for name, w in zip(header, widths, strict=True)]
    is_narrow = sum(fixed) + 2 * len(header) > console.width
    for name in header:
        is_number = name in numbers
        table.add_column(
            name.replace(" ", "\n") if is_number and is_narrow else name,
            justify="right" if is_number else "left",
            no_wrap=name not in prose and (is_number or not is_narrow),
            overflow="fold",
        )
    for row in cells:
        table.add_row(*map(Text, row))
    if title is not None:
        say(title, style="bold")
    if dressed:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def show_json(value: object) -> None:
    """Print a value for machines; floats that JSON does not know are null."""
    from cifarzoo.cli.records import finite

    sys.stdout.write(json.dumps(finite(value), indent=2, ensure_ascii=True) + "\n")
