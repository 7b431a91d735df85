"""`cifarzoo evaluate`: the score of trained weights on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cifarzoo.cli.console import say, show_json, show_table
from cifarzoo.cli.options import (
    DataName,
    Device,
    Json,
    Limit,
    Name,
    NoDownload,
    Precision,
    Root,
    WeightsData,
    WeightsOption,
)
from cifarzoo.cli.words import interval_words, percent
from cifarzoo.spec import Recipe, TtaName

if TYPE_CHECKING:
    from cifarzoo.cli.records import Record

__all__ = ["evaluate_command"]


def evaluate_command(
    name: Name,
    weights: WeightsOption = "default",
    data: WeightsData = None,
    root: Root = None,
    limit: Limit = None,
    tta: Annotated[TtaName, typer.Option(help="Test-time augmentation.")] = "none",
    device: Device = "auto",
    precision: Precision = "auto",
    no_download: NoDownload = False,
    json: Json = False,
) -> None:
    """Score a model over the whole test set: accuracy, interval, loss, calibration, classes."""
    from cifarzoo.cli.loading import class_names, load
    from cifarzoo.cli.records import environment_record, evaluation_record
    from cifarzoo.cli.trained import trained
    from cifarzoo.evaluation.evaluate import evaluate

    model, chosen = trained(name, weights, data)
    loaders = load(
        chosen,
        Recipe(batch_size=1),  # nothing is trained: any number of images will do
        root=root,
        seed=0,
        limit=limit,
        download=not no_download,
        device=device,
    )
    assert loaders.test is not None  # both data sets have one
    scored = evaluate(model, loaders.test, device=device, precision=precision, tta=tta)
    record = evaluation_record(scored, class_names(chosen))
    if json:
        environment = environment_record(device, precision)
        show_json({"model": name, "data": chosen, **record, "environment": environment})
    else:
        _show(name, chosen, record)


def _show(name: str, data: DataName, record: Record) -> None:
    say(f"{name} on the {record['n']:,} test images of {data}", style="bold")
    say()
    rows = [
        ("accuracy", percent(record["accuracy"])),
        ("95 % interval", interval_words(*record["interval"])),
        ("loss", f"{record['loss']:.4f}"),
        ("calibration error", percent(record["calibration_error"])),
    ]
    show_table(("", "value"), rows, numbers=("value",))
    say()
    classes = list(record["per_class"])
    cells = [
        (
            label,
            percent(record["per_class"][label]),
            f"{sum(row):,}",
            _mistakes(classes, row, true=i),
        )
        for i, (label, row) in enumerate(zip(classes, record["confusion"], strict=True))
    ]
    header = ("class", "accuracy", "images", "most often taken for")
    show_table(header, cells, numbers=("accuracy", "images"))


def _mistakes(classes: Sequence[str], row: Sequence[int], *, true: int) -> str:
    """Name the wrong class that a class's images are most often given."""
    wrong = [(count, i) for i, count in enumerate(row) if i != true and count]
    if not wrong:
        return "–"
    count, i = max(wrong)
    return f"{classes[i]} ({percent(count / sum(row))})"
