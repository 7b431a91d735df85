"""`cifarzoo predict`: what a model takes an image file for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarzoo.cli.console import one_line, remark, show_json, show_table
from cifarzoo.cli.options import (
    Device,
    Json,
    Name,
    Precision,
    WeightsData,
    WeightsOption,
    at_least,
)
from cifarzoo.cli.words import percent
from cifarzoo.errors import OptionError
from cifarzoo.spec import TtaName

if TYPE_CHECKING:
    from cifarzoo.cli.pictures import Picture
    from cifarzoo.cli.records import Record
    from cifarzoo.models.classifier import ImageClassifier
    from cifarzoo.spec import PrecisionName

__all__ = ["predict_command"]


def predict_command(
    name: Name,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Any image files.")],
    weights: WeightsOption = "default",
    data: WeightsData = None,
    top: Annotated[
        int,
        typer.Option(
            metavar="N", callback=at_least(1), help="How many classes to show, 1 or more."
        ),
    ] = 3,
    tta: Annotated[
        TtaName, typer.Option(help="Average over several views of each image.")
    ] = "none",
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> None:
    """Say what image files show, with probabilities.

    An image of any size is made 32 pixels wide; of one that is not square only the middle is
    looked at.
    """
    from cifarzoo.cli.loading import class_names
    from cifarzoo.cli.trained import trained

    of = trained(name, weights, data)
    classes = class_names(of.data)
    pictures = _read(images)
    likely = _probabilities(
        of.model, list(pictures.values()), tta=tta, device=device, precision=precision
    )
    records: list[Record] = []
    for path, row in zip(pictures, likely, strict=True):
        best = sorted(zip(classes, row, strict=True), key=lambda pair: -pair[1])[:top]
        predictions = [{"class": label, "probability": share} for label, share in best]
        records.append({"image": str(path), "predictions": predictions})
    if json:
        what = {"model": name, "weights": of.weights, "data": of.data, "tta": tta}
        show_json({**what, "images": records})
    elif records:
        remark(f"{name}, weights {of.weights}")
        _show(records)
    if len(pictures) < len(set(images)):
        raise typer.Exit(1)


def _read(paths: Sequence[Path]) -> dict[Path, Picture]:
    """Read what can be read; the others are named."""
    from cifarzoo.cli.pictures import read_picture

    pictures = {}
    for path in paths:
        try:
            pictures[path] = read_picture(path)
        except OptionError as error:
            remark(f"error: {one_line(str(error))}", style="red")
            continue
        if pictures[path].note:
            remark(f"{one_line(str(path))}: {pictures[path].note}")
    return pictures


def _probabilities(
    model: ImageClassifier,
    pictures: Sequence[Picture],
    *,
    tta: TtaName,
    device: str,
    precision: PrecisionName,
) -> list[list[float]]:
    """Give each picture's probabilities, one for each class."""
    import torch

    from cifarzoo.evaluation.predict import predict

    if not pictures:
        return []
    pixels = torch.stack([picture.pixels for picture in pictures])
    found = predict(model, pixels, tta=tta, device=device, precision=precision)
    rows: list[list[float]] = found.probabilities.tolist()
    return rows


def _show(records: Sequence[Record]) -> None:
    rows = [
        (record["image"], each["class"], percent(each["probability"]))
        for record in records
        for each in record["predictions"]
    ]
    header = ("image", "guess", "probability")
    show_table(header, rows, numbers=("probability",), prose=("image",))
