"""Tables for notebooks (HTML), terminals (rich) and text."""

from __future__ import annotations

import html
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["HasTable", "Table", "escape", "settings_rows"]


_WIDTH = 1000  # columns, so that no line is broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a title and an optional note.

    Attributes:
        title: line above the table.
        header: names of the columns.
        rows: rows, with one cell per column.
        numbers: names of the columns that are aligned to the right.
        note: line below the table; may be empty.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: Collection[str] = ()
    note: str = ""

    def html(self) -> str:
        """Return the table as HTML."""
        head = "".join(
            f"<th scope='col'{self._align(n)}>{html.escape(n)}</th>" for n in self.header
        )
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in self.rows)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        caption = f"<caption style='text-align: left'><b>{html.escape(self.title)}</b></caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"

    @override
    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=_WIDTH, color_system=None, force_jupyter=False).print(self.rich())
        return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())

    def _cells(self, row: tuple[str, ...]) -> str:
        pairs = zip(self.header, row, strict=True)
        return "".join(f"<td{self._align(n)}>{html.escape(cell)}</td>" for n, cell in pairs)

    def _align(self, name: str) -> str:
        return f" style='text-align: {'right' if name in self.numbers else 'left'}'"

    def rich(self) -> RenderableType:
        """Return the table as a rich renderable."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(self.title, style="bold"),
            title_justify="left",
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in self.header:
            table.add_column(Text(name), justify="right" if name in self.numbers else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


class HasTable:
    """Mixin for objects that are displayed as a table; subclasses implement `table`."""

    __slots__ = ()

    def table(self) -> Table:
        """Return the table."""
        raise NotImplementedError

    @override
    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().html()

    def __rich__(self) -> RenderableType:
        """Return what `rich.print` draws."""
        return self.table().rich()


def escape(text: str) -> str:
    """Escape the characters that a terminal does not show, including line breaks."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def settings_rows(settings: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any dataclass
    """Return the fields of a dataclass as (name, value) rows, in order.

    A field that is a dataclass itself shows what is neither zero, False, None nor `unused`.
    """
    return [(name.replace("_", " "), _text(value)) for name, value in _items(settings).items()]


def _items(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _text(value: object) -> str:
    if is_dataclass(value):
        unused = getattr(value, "unused", ())
        shown = {k: v for k, v in _items(value).items() if v and k not in unused}
        return ", ".join(f"{key} {_text(item)}" for key, item in shown.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(_text, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
