"""Trained weights, and what their file says about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from cifarzoo.cli.console import remark
from cifarzoo.cli.options import DataName
from cifarzoo.errors import WeightsError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.registry import build_from_card, model_card, outline
from cifarzoo.spec import to_path
from cifarzoo.weights import holds_backbone_alone, packaged_file
from cifarzoo.weights.notes import read_notes

__all__ = ["Trained", "trained"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A model with trained weights.

    Attributes:
        model: on the CPU, in evaluation mode.
        weights: the tag that "default" stands for, else what the user gave.
        data: name of the data set that the weights are for.
    """

    model: ImageClassifier
    weights: str
    data: DataName


def trained(name: str, weights: str, data: DataName | None) -> Trained:
    """Build a model with its weights, and find out what data they are for.

    Args:
        name: of the model.
        weights: a tag of its card, or a file.
        data: what the user says; None takes what the file says, else CIFAR-10.

    Raises:
        WeightsError: the weights are not there, damaged, of another model, or of a transfer
            model's backbone alone.
        UnknownModelError: no model has that name.
    """
    card = model_card(name)
    packaged = card.weights_for(weights)
    file = to_path("weights", weights)
    notes = read_notes(file if packaged is None else packaged_file(card.name, packaged.tag))
    trained_on = notes.get("data")
    if holds_backbone_alone(outline(card), weights, card):
        raise WeightsError(
            f"{weights} holds weights of {name}'s backbone alone; with a head at random it would "
            f"guess. Train it: `cifarzoo train {name} --weights {weights}`, and give the file of "
            "weights that this writes"
        )
    built = build_from_card(card, weights, 10)
    if notes.get("model", name) != name:
        remark(f"{weights} says that it holds weights of {notes['model']}; they fit {name} too.")
    used = weights if packaged is None else packaged.tag
    if trained_on not in get_args(DataName):
        return Trained(model=built, weights=used, data=data or "cifar10")
    if data not in (None, trained_on):
        remark(f"These weights were trained on {trained_on}, not on {data}.")
    return Trained(model=built, weights=used, data=data or cast("DataName", trained_on))
