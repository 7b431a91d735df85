"""Finds the cards: what models there are, and how one is built."""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, cast, overload

import torch

from cifarzoo import models
from cifarzoo.errors import UnknownModelError, one_of, suggest
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.spec import ModelCard, require, require_number, require_whole
from cifarzoo.weights import load_weights, packaged_folder, packaged_weights

__all__ = [
    "ModelName",
    "bare_card",
    "build_from_card",
    "build_model",
    "list_models",
    "model_card",
    "outline",
]

ModelName: TypeAlias = Literal[
    "densenet40_k12",
    "mobilenet_v2",
    "preact_resnet18",
    "report_baseline",
    "report_best",
    "report_model1",
    "report_model2",
    "resnet18_transfer",
    "resnet20",
    "resnet32",
    "resnet56",
    "sprint_l",
    "sprint_m",
    "sprint_m3",
    "sprint_s",
    "tiny_m",
    "tiny_s",
    "vgg11_bn",
    "vgg16_bn",
    "wrn_16_4",
    "wrn_28_10",
]


@functools.cache
def _cards() -> dict[str, ModelCard]:
    files = sorted(module.name for module in pkgutil.iter_modules(models.__path__))
    modules = [importlib.import_module(f"{models.__name__}.{name}") for name in files]
    cards: list[ModelCard] = [card for module in modules for card in getattr(module, "CARDS", ())]
    return {card.name: card for card in cards}


def outline(card: ModelCard) -> ImageClassifier:
    """Build a card's model of ten classes without memory for its weights, to look at its parts."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a builder that loads weights loads none
        return card.builder(10)


@functools.cache
def _count_params(name: str) -> int:
    return sum(parameter.numel() for parameter in outline(_cards()[name]).parameters())


def list_models(
    *, family: str | None = None, max_params: int | None = None
) -> tuple[ModelName, ...]:
    """Give the names of the models, in the order of the families' files.

    Args:
        family: only this one, for example "report"; None gives all.
        max_params: only models of at most this many parameters; None gives all.

    Returns:
        The names; `build_model` and `model_card` take them.

    Raises:
        OptionError: no such family.
    """
    cards = _cards().values()
    families = sorted({card.family for card in cards})
    if family is not None and family not in families:
        raise one_of("family", family, families)
    if max_params is not None:
        require_number("max_params", max_params, "a number, or None")
        require("max_params", max_params, "0 or more, or None", met=max_params >= 0)
    names = [
        card.name
        for card in cards
        if family in (None, card.family)
        and (max_params is None or _count_params(card.name) <= max_params)
    ]
    return cast("tuple[ModelName, ...]", tuple(names))


@overload
def model_card(name: ModelName) -> ModelCard: ...
@overload
def model_card(name: str) -> ModelCard: ...
def model_card(name: str) -> ModelCard:
    """Give what is known of a model.

    Args:
        name: one of `list_models()`.

    Returns:
        The card: builder, recipe, paper, and the weights that come with the package.

    Raises:
        UnknownModelError: no model has that name; the message gives the closest one.
        WeightsError: the description of its weights is damaged.
    """
    return _with_weights(bare_card(name).name, packaged_folder())


@functools.cache
def _with_weights(name: str, folder: Path) -> ModelCard:
    """Read the descriptions of a model's weights once."""
    return replace(bare_card(name), weights=packaged_weights(name, folder))


def forget_weights() -> None:
    """Read descriptions anew from now on: weights were just written."""
    _with_weights.cache_clear()


def bare_card(name: str) -> ModelCard:
    """Give a model's card as its family's file has it, for whoever needs no trained weights.

    Raises:
        UnknownModelError: no model has that name; the message gives the closest one.
    """
    cards = _cards()
    name = str(name)
    if name not in cards:
        raise UnknownModelError(
            f"unknown model {name!r}{suggest(name, cards)} (list_models() or `cifarzoo list` "
            f"gives them all: {', '.join(cards)})"
        )
    return cards[name]


@overload
def build_model(
    name: ModelName, *, weights: str | Path | None = None, num_classes: int = 10
) -> ImageClassifier: ...
@overload
def build_model(
    name: str, *, weights: str | Path | None = None, num_classes: int = 10
) -> ImageClassifier: ...
def build_model(
    name: str, *, weights: str | Path | None = None, num_classes: int = 10
) -> ImageClassifier:
    """Build a model of the zoo, preprocessing included, on the CPU in evaluation mode.

    Random weights are drawn from torch's global generator, as every torch module does.

    Args:
        name: one of `list_models()`.
        weights: None for random ones; a tag of the card's; "default" for those by the card's
            own recipe, or, where there are none, for the card's first; or the path of a file.
        num_classes: length of the logits, at least 1; trained weights fit the number they were
            trained with.

    Returns:
        A module that maps images, uint8 (N,3,32,32) or float in [0, 1], to logits
        (N,num_classes).

    Raises:
        DownloadError: weights that are not part of the package could not be fetched.
        OptionError: num_classes is under 1.
        UnknownModelError: no model has that name.
        WeightsError: there are no such weights, or they do not fit.
    """
    card = bare_card(name) if weights is None else model_card(name)
    return build_from_card(card, weights, num_classes)


def build_from_card(
    card: ModelCard, weights: str | Path | None, num_classes: int, *, download: bool = True
) -> ImageClassifier:
    """Build a model as `build_model` does, from a card that need not be one of the zoo's.

    Without `download`, a backbone's published weights have to be in torch's cache.
    """
    require_whole("num_classes", num_classes, 1, math.inf, "1 or more")
    model = card.builder(num_classes).eval()
    load_weights(model, weights, card, download=download)
    return model
