"""The options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from cifarzoo.errors import OptionError
from cifarzoo.spec import PrecisionName, TtaName, to_path

__all__ = [
    "at_least",
    "Data",
    "DataName",
    "Device",
    "Json",
    "Limit",
    "Name",
    "NoDownload",
    "Precision",
    "Root",
    "Tta",
    "WeightsData",
    "WeightsOption",
    "seed_list",
    "seed_numbers",
    "usable",
]

MOST = 2**63


def usable(value: Path | None) -> Path | None:
    """Replace the `~` of an option's path.

    Raises:
        BadParameter: it is no path that the system takes.
    """
    try:
        return None if value is None else to_path("the path", value)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from error


def at_least(low: int) -> Callable[[float | None], float | None]:
    """Give what refuses an option's number below `low`, or above what any machine has."""

    def checked(value: float | None) -> float | None:
        if value is not None and not low <= value < MOST:
            raise typer.BadParameter(f"{value} is not allowed; needed is {low} or more")
        return value

    return checked


def seed_numbers(text: str) -> tuple[int, ...]:
    """Read "0,1,2".

    Raises:
        OptionError: it is no list of whole numbers, each 0 or more, below 2**63 and there once.
    """
    parts = [part.strip() for part in text.split(",")]
    digits = len(str(MOST))
    if not all(part.isascii() and part.isdigit() and len(part) <= digits for part in parts):
        raise OptionError(f"{text!r} is not allowed; needed are whole numbers, such as 0,1,2")
    numbers = tuple(map(int, parts))
    if max(numbers) >= MOST or len(set(numbers)) != len(numbers):
        raise OptionError(f"{text!r} is not allowed; needed is each seed once, below {MOST}")
    return numbers


def seed_list(text: str | None) -> str | None:
    """Refuse an option's seeds that `seed_numbers` cannot read.

    Raises:
        BadParameter: it is no list of seeds.
    """
    try:
        if text is not None:
            seed_numbers(text)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from error
    return text


# The same names as `cifarzoo.run.DataName`, which cannot be imported without torch.
DataName: TypeAlias = Literal["cifar10", "shapes"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="One of `cifarzoo list`.")]
Data = Annotated[DataName, typer.Option(help="The data set; shapes is built in.")]
WeightsOption = Annotated[
    str,
    typer.Option("--weights", metavar="TAG|FILE", help="A tag of `cifarzoo info`, or a file."),
]
WeightsData = Annotated[
    DataName | None,
    typer.Option("--data", help="The data set; without it the one the weights were trained on."),
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        callback=usable,
        help="Where CIFAR-10 is; without it CIFARZOO_DATA, else the user's cache.",
    ),
]
NoDownload = Annotated[
    bool,
    typer.Option("--no-download", help="Fetch neither CIFAR-10 nor ImageNet weights."),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=at_least(2),
        help="Use only the first N training and N test images, 2 or more, to try things.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    PrecisionName, typer.Option(help="auto: bfloat16 where the processor is faster in it.")
]
Tta = Annotated[
    TtaName,
    typer.Option(help="Score the test set a second time, with test-time augmentation."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
