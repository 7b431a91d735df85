"""Find models by name, and build them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from cifarzoo import models
from cifarzoo.card import ModelCard
from cifarzoo.errors import unknown
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate
from cifarzoo.weights import load_weights, packaged_weights

__all__ = [
    "build_from_card",
    "build_model",
    "build_on_meta",
    "card_without_weights",
    "list_models",
    "model_card",
]


@functools.cache
def _cards() -> dict[str, ModelCard]:
    """Return the `CARDS` of every module of `cifarzoo.models`, sorted by name."""
    names = [f"{models.__name__}.{module.name}" for module in pkgutil.iter_modules(models.__path__)]
    modules = map(importlib.import_module, names)
    cards: list[ModelCard] = [card for module in modules for card in getattr(module, "CARDS", ())]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


@functools.cache
def _count_params(name: str) -> int:
    return sum(parameter.numel() for parameter in build_on_meta(_cards()[name]).parameters())


def list_models(
    pattern: str = "*", *, family: str | None = None, max_params: int | None = None
) -> list[str]:
    """Return the names of the models, sorted.

    Args:
        pattern: names to list, with the wildcards of `fnmatch`, such as "resnet*".
        family: list only models of this family, such as "report"; None lists all.
        max_params: list only models with at most this many parameters, 0 or more; None lists all.

    Raises:
        InvalidValueError: there is no such family, or max_params is negative.

    Example:
        >>> list_models("resnet*", max_params=500_000)
        ['resnet20', 'resnet32']
    """
    cards = _cards()
    families = sorted({card.family for card in cards.values()})
    if family is not None and family not in families:
        raise unknown("family", family, families)
    if max_params is not None:
        validate("max_params", max_params, NonNegativeInt)
    return [
        name
        for name, card in cards.items()
        if fnmatchcase(name, pattern)
        and family in (None, card.family)
        and (max_params is None or _count_params(name) <= max_params)
    ]


def model_card(name: str) -> ModelCard:
    """Return a model's card: builder, recipes, paper, and weights in the package.

    Args:
        name: one of `list_models()`.

    Raises:
        InvalidValueError: there is no such model; the message suggests the closest name.
        RunError: a record of its weights is damaged.
        WeightsError: the file of its weights is missing.
    """
    card = card_without_weights(name)
    return replace(card, weights=packaged_weights(card.name))


def card_without_weights(name: str) -> ModelCard:
    """Return a model's card as its module defines it, without reading any file.

    Raises:
        InvalidValueError: there is no such model; the message suggests the closest name.
    """
    if name not in _cards():
        raise unknown("model", name, _cards())
    return _cards()[name]


def build_model(
    name: str, *, weights: str | Path | None = None, num_classes: int = 10
) -> ImageClassifier:
    """Build a model, including its preprocessing, on the CPU in evaluation mode.

    Random weights are drawn from torch's global generator.

    Args:
        name: one of `list_models()`.
        weights: None for random weights, "default" for the best weights in the package, another
            tag of the card, or the path of a file.
        num_classes: length of the logits, 1 or more. Trained weights fit only the number of classes
            that they were trained with.

    Returns:
        A module that maps images, uint8 (N,3,32,32) or float in [0, 1], to logits (N,num_classes).

    Raises:
        DownloadError: a backbone's published weights could not be downloaded.
        InvalidValueError: there is no such model, or num_classes is below 1.
        WeightsError: there are no such weights, or they do not fit.

    Example:
        >>> model = build_model("tiny_s", weights="default")
        >>> model(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    card = card_without_weights(name) if weights is None else model_card(name)
    return build_from_card(card, weights, num_classes)


def build_from_card(
    card: ModelCard, weights: str | Path | None, num_classes: int, *, download: bool = True
) -> ImageClassifier:
    """Build a model from any card, and load weights as `build_model` does.

    Args:
        card: the model's card, which need not be in the zoo.
        weights: as in `build_model`.
        num_classes: length of the logits, 1 or more.
        download: whether to download a backbone's weights that are not in torch's cache.

    Raises:
        CifarZooError: the errors of `build_model`.
    """
    model = card.builder(validate("num_classes", num_classes, PositiveInt)).eval()
    load_weights(model, weights, card, download=download)
    return model


def build_on_meta(card: ModelCard) -> ImageClassifier:
    """Build a card's model with ten classes on the meta device, which stores no values."""
    with torch.device("meta"):
        return card.builder(10)
