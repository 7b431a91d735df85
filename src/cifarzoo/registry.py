"""Find models by name, and build them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import warnings
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from cifarzoo import models
from cifarzoo.card import ModelCard, Weights
from cifarzoo.errors import InvalidTypeError, InvalidValueError, unknown
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate
from cifarzoo.weights import (
    count_classes,
    load_state,
    packaged_file,
    packaged_weights,
    read_state_dict,
    read_weights,
)

__all__ = [
    "build_from_card",
    "build_model",
    "build_on_meta",
    "card_without_weights",
    "list_models",
    "model_card",
    "packaged_weights_of",
    "register",
]

_registered: dict[str, ModelCard] = {}
_RENAMED = {"densenet40_k12": "densenet40_k12_bc"}


@functools.cache
def _packaged_cards() -> dict[str, ModelCard]:
    """Return the `CARDS` of every module of `cifarzoo.models` by name."""
    names = [f"{models.__name__}.{module.name}" for module in pkgutil.iter_modules(models.__path__)]
    modules = map(importlib.import_module, names)
    return {card.name: card for module in modules for card in getattr(module, "CARDS", ())}


def _cards() -> dict[str, ModelCard]:
    """Return all cards, sorted by name."""
    return dict(sorted({**_packaged_cards(), **_registered}.items()))


@functools.cache
def _count_params(name: str) -> int:
    return sum(parameter.numel() for parameter in build_on_meta(_cards()[name]).parameters())


def register(card: ModelCard) -> None:
    """Add your own model to the zoo, for the rest of the process.

    Every function that takes the name of a model then knows it. Its weights are read from files.
    Registering a name again replaces your earlier card.

    Args:
        card: the model's card; its name must not be one of the zoo's.

    Raises:
        InvalidTypeError: card is not a `ModelCard`.
        InvalidValueError: the zoo has a model of that name.

    Example:
        >>> register(ModelCard(
        ...     name="my_net", family="own", summary="My network.", builder=my_net,
        ...     recipes={"standard": Recipe(epochs=10)},
        ... ))  # doctest: +SKIP
    """
    if not isinstance(card, ModelCard):
        raise InvalidTypeError(f"card is a {type(card).__name__}: expected a ModelCard")
    if card.name in (*_packaged_cards(), *_RENAMED):
        raise InvalidValueError(f"card.name is {card.name!r}: expected a name not in the zoo")
    _registered[card.name] = card
    _count_params.cache_clear()


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
    """Return a model's card as it was defined, without reading any file.

    Raises:
        InvalidValueError: there is no such model; the message suggests the closest name.
    """
    if name in _RENAMED:
        old, name = name, _RENAMED[name]
        warnings.warn(f"{old} was renamed to {name}", FutureWarning, stacklevel=3)
    cards = _cards()
    if name not in cards:
        raise unknown("model", name, cards, hint="register(card) adds your own")
    return cards[name]


def build_model(
    name: str, *, weights: str | Path | None = None, num_classes: int | None = None
) -> ImageClassifier:
    """Build a model, including its preprocessing, on the CPU in evaluation mode.

    Random weights are drawn from torch's global generator.

    Args:
        name: one of `list_models()`.
        weights: None for random weights, "default" for the best CIFAR-10 weights in the package,
            another tag of the card, or the path of a file.
        num_classes: length of the logits, 1 or more; None for that of the weights, and 10 without
            weights.

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
    card: ModelCard,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    *,
    download: bool = True,
) -> ImageClassifier:
    """Build a model from any card, and load weights as `build_model` does.

    Args:
        card: the model's card, which need not be in the zoo.
        weights: as in `build_model`.
        num_classes: as in `build_model`.
        download: whether to download a backbone's weights that are not in torch's cache.

    Raises:
        CifarZooError: the errors of `build_model`.
    """
    with torch.inference_mode(mode=False):  # whose tensors cannot be trained
        n = 10 if num_classes is None else validate("num_classes", num_classes, PositiveInt)
        model = _build(card, n)
        if weights is None:
            return model
        stored = read_weights(model, weights, card, download=download)
        if num_classes is None and (found := count_classes(model.state_dict(), stored.state)):
            n, model = found, _build(card, found)
        load_state(model, stored.state, source=stored.source)
    if stored.class_names and len(stored.class_names) == n:
        model.class_names = stored.class_names
    return model


def _build(card: ModelCard, num_classes: int) -> ImageClassifier:
    model = card.builder(num_classes).eval()
    model.name = card.name
    return model


def build_on_meta(card: ModelCard) -> ImageClassifier:
    """Build a card's model with ten classes on the meta device, which stores no values."""
    with torch.device("meta"):
        return card.builder(10)


def packaged_weights_of(model: ImageClassifier) -> Weights | None:
    """Return the weights in the package that equal a model's, or None."""
    if model.name is None:
        return None
    own = {name: tensor.cpu().float() for name, tensor in model.state_dict().items()}
    for weights in model_card(model.name).weights:
        stored = read_state_dict(packaged_file(model.name, weights.tag))
        if all(name in own and own[name].equal(stored[name].float()) for name in stored):
            return weights
    return None
