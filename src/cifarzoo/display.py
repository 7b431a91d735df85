"""How things show themselves: as a table in a terminal (rich) and in a notebook (HTML).

What `print` writes is not touched by it.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Display", "Shown", "settings_rows"]

RIGHT = ' style="text-align: right"'
LEFT = ' style="text-align: left"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """A table with words around it.

    Attributes:
        title: a line above it.
        header: names of the columns.
        rows: cells, as many as there are names in the header.
        numbers: names of the columns that are flush right.
        note: a line below it; empty for none.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: Collection[str] = ()
    note: str = ""

    def html(self) -> str:
        """Give it as HTML that brings nothing along but a table."""
        head = "".join(
            f'<th scope="col"{self._side(name)}>{html.escape(name)}</th>' for name in self.header
        )
        body = "".join(
            "<tr>"
            + "".join(
                f"<td{self._side(name)}>{html.escape(cell)}</td>"
                for name, cell in zip(self.header, row, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return (
            f"<table><caption{LEFT}><b>{html.escape(self.title)}</b></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"
        )

    def _side(self, name: str) -> str:
        return RIGHT if name in self.numbers else LEFT

    def rich(self) -> RenderableType:
        """Give it as what `rich.print` draws."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title, style="bold"),
            title_justify="left",
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for name in self.header:
            justify = "right" if name in self.numbers else "left"
            table.add_column(Text(name), justify=justify)  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


class Shown:
    """Something that shows itself as a table; a class that is one gives `_display`."""

    __slots__ = ()

    def _display(self) -> Display:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self._display().html()

    def __rich__(self) -> RenderableType:
        """Give what `rich.print` draws."""
        return self._display().rich()


def settings_rows(settings: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any dataclass
    """List the settings of a dataclass, one row each, in the order of its fields."""
    return [(name.replace("_", " "), _words(value)) for name, value in asdict(settings).items()]


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        given = {key: item for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {_words(item)}" for key, item in given.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(_words, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
