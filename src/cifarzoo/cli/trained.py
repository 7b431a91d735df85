"""Trained weights, and what their file says about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast, get_args

from cifarzoo.cli.console import remark
from cifarzoo.cli.options import DataName
from cifarzoo.errors import WeightsError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.registry import build_from_card, model_card
from cifarzoo.spec import to_path
from cifarzoo.weights.notes import NOTES_KEY

__all__ = ["trained"]


def trained(
    name: str, weights: str, data: DataName | None, *, download: bool = True
) -> tuple[ImageClassifier, DataName]:
    """Build a model with its weights, and find out what data they are for.

    Args:
        name: of the model.
        weights: a tag of its card, or a file.
        data: what the user says; None takes what the file says, else CIFAR-10.
        download: whether to fetch ImageNet weights that are not in torch's cache.

    Returns:
        The model, on the CPU in evaluation mode, and the name of a data set.

    Raises:
        WeightsError: the weights are not there, damaged, or of another model.
        UnknownModelError: no model has that name.
    """
    notes = _notes(to_path("weights", weights))
    model, trained_on = notes.get("model"), notes.get("data")
    if model not in (None, name):
        raise WeightsError(f"{weights} holds weights of {model}, not of {name}; name that model")
    built = build_from_card(model_card(name), weights, 10, download=download)
    if trained_on not in get_args(DataName):
        return built, data or "cifar10"
    if data not in (None, trained_on):
        remark(f"These weights were trained on {trained_on}, not on {data}.")
    return built, data or cast("DataName", trained_on)


def _notes(path: Path) -> dict[str, str]:
    """Read what `notes_on` wrote; nothing for other files, which `build_model` judges."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {}).get(NOTES_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}
