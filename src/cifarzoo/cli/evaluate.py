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
from cifarzoo.spec import TtaName

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
    from cifarzoo.registry import model_card

    model, chosen = trained(name, weights, data)
    loaders = load(
        chosen,
        model_card(name).recipe,
        root=root,
        seed=0,
        limit=limit,
        download=not no_download,
    )
    assert loaders.test is not None  # noqa: S101 - both data sets have one
    scored = evaluate(model, loaders.test, device=device, precision=precision, tta=tta)
    record = evaluation_record(scored, class_names(chosen))
    if json:
        environment = environment_record(device, precision)
        show_json({"model": name, "data": chosen, **record, "environment": environment})
    else:
        _show(name, chosen, record)
