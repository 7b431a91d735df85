"""What the commands know, as plain dictionaries: for JSON, and for the record of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from cifarzoo.arithmetic.cost import LayerTable
    from cifarzoo.evaluation.evaluate import Evaluation
    from cifarzoo.spec import ModelCard, PrecisionName
    from cifarzoo.training.history import History

__all__ = [
    "Record",
    "card_record",
    "environment_record",
    "evaluation_record",
    "finite",
    "history_record",
    "layers_of",
    "tta_record",
]

Record: TypeAlias = dict[str, Any]


def finite(value: object) -> object:
    """Copy a value of plain types; NaN and infinities, which JSON does not know, become None."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def layers_of(card: ModelCard) -> LayerTable:
    """List what each layer of a model costs; no memory is taken for its weights."""
    from cifarzoo.arithmetic.cost import layer_table
    from cifarzoo.registry import outline

    return layer_table(outline(card))


def card_record(card: ModelCard) -> Record:
    """Describe a model, its cost included."""
    rows = layers_of(card)
    return {
        "name": card.name,
        "family": card.family,
        "summary": card.summary,
        "paper": card.paper,
        "params": sum(row.params for row in rows),
        "macs": sum(row.macs for row in rows),
        "initial_weights": card.initial_weights,
        "recipe": asdict(card.recipe),
        "more_recipes": {tag: asdict(recipe) for tag, recipe in card.more_recipes},
        "weights": [asdict(weights) for weights in card.weights],
    }


def evaluation_record(evaluation: Evaluation, classes: Sequence[str]) -> Record:
    """Describe a score, its classes by name."""
    return {
        "accuracy": evaluation.accuracy,
        "interval": list(evaluation.interval),
        "loss": evaluation.loss,
        "calibration_error": evaluation.calibration_error,
        "n": evaluation.n,
        "tta": evaluation.tta,
        "per_class": dict(zip(classes, evaluation.per_class, strict=True)),
        "confusion": evaluation.confusion.tolist(),
    }


def tta_record(evaluation: Evaluation) -> Record:
    """Describe in short what stands beside a single-view score."""
    return {
        "name": evaluation.tta,
        "accuracy": evaluation.accuracy,
        "interval": list(evaluation.interval),
        "loss": evaluation.loss,
        "calibration_error": evaluation.calibration_error,
    }


def history_record(history: History) -> Record:
    """Describe a run, check by check."""
    return asdict(history)


def environment_record(device: str, precision: PrecisionName) -> Record:
    """Say where a run is made, and by what code."""
    from cifarzoo.report.provenance import this_machine, this_source

    return {"machine": asdict(this_machine(device, precision)), "source": asdict(this_source())}
