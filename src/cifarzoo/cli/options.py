"""The options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from cifarzoo.spec import PrecisionName, TtaName

__all__ = [
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
]

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
        help="Where CIFAR-10 is; without it CIFARZOO_DATA, else the user's cache.",
    ),
]
NoDownload = Annotated[
    bool, typer.Option("--no-download", help="Do not fetch CIFAR-10 where it is not found.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=2, help="Use only the first N training and N test images, to try things."
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    PrecisionName, typer.Option(help="auto: bfloat16 where the processor has units for it.")
]
Tta = Annotated[
    TtaName,
    typer.Option(help="Score the test set a second time, with test-time augmentation."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
