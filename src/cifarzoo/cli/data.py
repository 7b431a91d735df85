"""`cifarzoo data`: show where the data sets are, verify and download them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from typer import Exit, Option

from cifarzoo.cli import options
from cifarzoo.cli.console import log, show_json, show_table
from cifarzoo.errors import CifarZooError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cifarzoo.data.forms import Copy
    from cifarzoo.data.published import Published

__all__ = ["data_command"]

Row: TypeAlias = dict[str, str | None]

COLUMNS = ("data", "form", "path", "state")


def data_command(
    data: Annotated[
        Literal["cifar10", "cifar100"] | None, Option(help="Data set; default: both.")
    ] = None,
    root: options.Root = None,
    fetch: Annotated[
        bool, Option("--fetch", help="Download what is not found; resume a download that was cut.")
    ] = False,
    verify: Annotated[
        bool, Option("--verify", help="Read all images and labels, and compare their hashes.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show where CIFAR-10 and CIFAR-100 are found, and in which form.

    Of several copies of a data set, the first is used.
    """
    from cifarzoo.data import cifar

    places = cifar.places(root)
    rows = [
        row
        for published in (cifar.CIFAR10, cifar.CIFAR100)
        if data in (None, published.key)
        for row in _rows(published, places, fetch=fetch, verify=verify)
    ]
    if json:
        show_json(rows)
    else:
        show_table(COLUMNS, [[row[name] or "–" for name in COLUMNS] for row in rows])
        for row in rows:
            if row["message"]:
                log(f"\n{row['message']}")
    if any(row["state"] == "refused" for row in rows):
        raise Exit(1)


def _rows(
    published: Published, places: Mapping[str, Path], *, fetch: bool, verify: bool
) -> Iterator[Row]:
    """Yield a row for each copy, or one that says that there is none."""
    from cifarzoo.data import cifar
    from cifarzoo.data.forms import find_copies

    def copies() -> list[Copy]:
        return [copy for place in places.values() for copy in find_copies(published, place)]

    found = copies()
    if not found and fetch:
        cifar.fetch(published, places)
        found = copies()
    for copy in found:
        state, message = _verify(published, copy) if verify else ("not verified", None)
        yield _row(published, copy.form, str(copy.path), state, message)
    if not found:
        yield _row(published, None, None, "not found", cifar.not_found(published, places))


def _row(published: Published, *values: str | None) -> Row:
    return dict(zip((*COLUMNS, "message"), (published.key, *values), strict=True))


def _verify(published: Published, copy: Copy) -> tuple[str, str | None]:
    """Return the state of a copy, and what there is to say about it."""
    from cifarzoo.data import cifar

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cifar.verify(published, copy)
    except (CifarZooError, OSError) as error:
        return "refused", str(error)
    return "verified", "\n".join(str(warning.message) for warning in caught) or None
