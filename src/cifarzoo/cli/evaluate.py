"""`cifarzoo evaluate`: the score of trained weights on the test set."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifarzoo.cli.console import say, show_json, show_table
from cifarzoo.cli.options import (
    Device,
    Json,
    Limit,
    Name,
    NoDownload,
    Precision,
    Root,
    Tta,
    WeightsData,
    WeightsOption,
)
from cifarzoo.cli.words import interval_words, percent
from cifarzoo.spec import Recipe

if TYPE_CHECKING:
    from cifarzoo.cli.records import Record

__all__ = ["evaluate_command"]


def evaluate_command(
    name: Name,
    weights: WeightsOption = "default",
    data: WeightsData = None,
    root: Root = None,
    limit: Limit = None,
    tta: Tta = "none",
    device: Device = "auto",
    precision: Precision = "float32",
    no_download: NoDownload = False,
    json: Json = False,
) -> None:
    """Score a model over the whole test set: accuracy, interval, loss, calibration, classes.

    Test-time augmentation is reported beside the single view, never in its place. In float32 the
    score hardly depends on the machine; bfloat16 is faster where there are units for it.
    """
    from cifarzoo.cli.loading import class_names, load
    from cifarzoo.cli.records import environment_record, evaluation_record, tta_record
    from cifarzoo.cli.trained import trained
    from cifarzoo.evaluation.evaluate import evaluate

    of = trained(name, weights, data)
    loaders = load(
        of.data,
        Recipe(batch_size=1),  # nothing is trained: any number of images will do
        root=root,
        seed=0,
        limit=limit,
        download=not no_download,
        device=device,
    )
    assert loaders.test is not None  # both data sets have one
    score = functools.partial(evaluate, of.model, loaders.test, device=device, precision=precision)
    record = evaluation_record(score(), class_names(of.data))
    record["tta"] = None if tta == "none" else tta_record(score(tta=tta))
    if json:
        environment = environment_record(device, precision)
        what = {"model": name, "weights": of.weights, "data": of.data}
        show_json({**what, **record, "environment": environment})
    else:
        images = f"{'first ' if record['n'] == limit else ''}{record['n']:,} test images"
        _show(f"{name}, weights {of.weights}, on the {images} of {of.data}", record)


def _show(title: str, record: Record) -> None:
    say(title, style="bold")
    say()
    views = record["tta"]
    rows = [_row("single view", record), *([] if views is None else [_row(views["name"], views)])]
    figures = ("accuracy", "95 % interval", "loss", "calibration error")
    show_table(("", *figures), rows, numbers=figures)
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
    subtitle = None if views is None else "classes, single view"
    show_table(header, cells, title=subtitle, numbers=("accuracy", "images"))


def _row(label: str, score: Record) -> tuple[str, ...]:
    return (
        label,
        percent(score["accuracy"]),
        interval_words(*score["interval"]),
        f"{score['loss']:.4f}",
        percent(score["calibration_error"]),
    )


def _mistakes(classes: Sequence[str], row: Sequence[int], *, true: int) -> str:
    """Name the wrong class that a class's images are most often given."""
    wrong = [(count, i) for i, count in enumerate(row) if i != true and count]
    if not wrong:
        return "–"
    count, i = max(wrong)
    return f"{classes[i]} ({percent(count / sum(row))})"
