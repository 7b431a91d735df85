"""Options that several commands share."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Argument, BadParameter, Context, Option

from cifarzoo.cli.completion import complete_model, complete_weights
from cifarzoo.errors import CifarZooError
from cifarzoo.recipe import PrecisionName, TtaName

# As in `cifarzoo.run`, which imports torch.
DataName: TypeAlias = Literal["cifar10", "cifar100", "shapes"]


def _register_cards(ctx: Context, values: list[str] | None) -> list[str] | None:
    """Import and register cards such as "my_models:CARD"."""
    if ctx.resilient_parsing or not values:
        return values
    from cifarzoo.registry import register

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    for value in values:
        module, _, attribute = value.partition(":")
        if not module or not attribute:
            raise BadParameter(f"{value!r}: expected MODULE:NAME, such as my_models:CARD")
        try:
            card = getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise BadParameter(f"{value!r}: {error}") from error
        except Exception as error:  # the user's module can raise anything
            reason = f"{type(error).__name__}: {error}"
            raise BadParameter(f"{value!r}: cannot import {module!r} ({reason})") from error
        try:
            register(card)
        except CifarZooError as error:
            raise BadParameter(f"{value!r}: {error}") from error
    return values


Name = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="Model; cifarzoo list shows all names.",
        autocompletion=complete_model,
    ),
]
Cards = Annotated[
    list[str] | None,
    Option(
        "--card",
        metavar="MODULE:NAME",
        callback=_register_cards,
        help="Register your own ModelCard first.",
    ),
]
Data = Annotated[DataName, Option(help="Data set; shapes is built in.")]
Weights = Annotated[
    str,
    Option(
        metavar="TAG|FILE",
        help="Tag from cifarzoo info, or a file; default means the best.",
        autocompletion=complete_weights,
    ),
]
WeightsData = Annotated[
    DataName | None, Option(help="Data set; default: the training data of the weights.")
]
Root = Annotated[
    Path | None,
    Option(metavar="FOLDER", help="Folder with the data; default: $CIFARZOO_DATA, or a cache."),
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
