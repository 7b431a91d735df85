"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Argument, Option

from cifarzoo.recipe import PrecisionName, TtaName

DataName: TypeAlias = Literal["cifar10", "shapes"]  # as in `cifarzoo.run`, which imports torch

Name = Annotated[str, Argument(metavar="NAME", help="Model; cifarzoo list shows all names.")]
Data = Annotated[DataName, Option(help="Data set; shapes is built in.")]
Weights = Annotated[
    str,
    Option(metavar="TAG|FILE", help="Tag from cifarzoo info, or a file; default means the best."),
]
WeightsData = Annotated[
    DataName | None, Option(help="Data set; default: the training data of the weights.")
]
Root = Annotated[
    Path | None,
    Option(metavar="FOLDER", help="Folder with CIFAR-10; default: $CIFARZOO_DATA, or a cache."),
]
NoDownload = Annotated[
    bool, Option("--no-download", help="Do not download data or published weights.")
]
Limit = Annotated[
    int | None,
    Option(metavar="N", min=2, help="Use only the first N training images and N test images."),
]
Device = Annotated[str, Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[
    PrecisionName, Option(help="auto is bfloat16 where the device is faster in it.")
]
Tta = Annotated[TtaName, Option(help="Also score the test set with test-time augmentation.")]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
