"""The four convolutional networks of a university report.

Source: a report on assignment 3 of TDT4265 (Computer Vision and Deep Learning, NTNU, 2021), tasks 2
and 3. Pixels are normalised with mean 0.5 and standard deviation 0.25, as in the report.

The networks follow the report's tables. The code behind the report deviated from them: it had no
ReLU between the two convolutions of blocks 2 and 3, and a batch norm in the head of model 2.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field, StrictBool
from torch import nn

from cifarzoo.card import ModelCard
from cifarzoo.errors import InvalidValueError
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import sequential
from cifarzoo.recipe import EarlyStopping, Recipe
from cifarzoo.validation import Fraction, PositiveInt, validate

__all__ = ["CARDS", "SGD_RECIPE", "report_model"]

IMAGE_SIZE = 32
SGD_RECIPE = Recipe(
    epochs=10,
    batch_size=64,
    optimizer="sgd",
    lr=0.05,
    checks_per_epoch=2,
    early_stopping=EarlyStopping(patience=4),
)

_Filters = Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=5)]


def report_model(
    num_classes: int = 10,
    *,
    filters: Sequence[int] = (32, 64, 128),
    kernel_size: int = 5,
    convs_per_block: int = 1,
    batch_norm: bool = False,
    dropout: float = 0.0,
    hidden: Sequence[int] = (64,),
    head_norm: bool = False,
) -> ImageClassifier:
    """Build one of the report's networks, or a variation, with random weights.

    It classifies images (N,3,32,32). The defaults are the baseline's.

    Args:
        num_classes: length of the logits, at least 1.
        filters: width of each block, 1 to 5 of them; each block halves the image.
        kernel_size: side of the convolutions, odd.
        convs_per_block: convolutions per block, each followed by a ReLU.
        batch_norm: whether a batch norm follows the last ReLU of each block.
        dropout: probability at the end of each block, in [0, 1).
        hidden: widths of the hidden linear layers, each followed by a ReLU.
        head_norm: whether a batch norm follows the ReLU of each hidden layer.

    Raises:
        InvalidTypeError, InvalidValueError: an argument is not accepted.

    Example:
        >>> from cifarzoo.models.report import report_model
        >>> wide = report_model(filters=(64, 128, 256), batch_norm=True)
    """
    validate("num_classes", num_classes, PositiveInt)
    validate("filters", filters, _Filters)
    validate("convs_per_block", convs_per_block, PositiveInt)
    validate("batch_norm", batch_norm, StrictBool)
    validate("dropout", dropout, Fraction)
    validate("hidden", hidden, tuple[PositiveInt, ...])
    validate("head_norm", head_norm, StrictBool)
    if validate("kernel_size", kernel_size, PositiveInt) % 2 == 0:
        raise InvalidValueError(f"kernel_size is {kernel_size}: expected an odd number")

    network, channels = nn.Sequential(), 3
    for i, width in enumerate(filters, 1):
        layers: dict[str, nn.Module] = {}
        for j in range(1, convs_per_block + 1):
            layers[f"conv{j}"] = nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2)
            layers[f"relu{j}"] = nn.ReLU()
            channels = width
        if batch_norm:
            layers["norm"] = nn.BatchNorm2d(width)
        layers["pool"] = nn.MaxPool2d(2)
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        network.add_module(f"block{i}", sequential(**layers))

    head: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    features = channels * (IMAGE_SIZE >> len(filters)) ** 2
    for i, width in enumerate(hidden, 1):
        head |= {f"linear{i}": nn.Linear(features, width), f"relu{i}": nn.ReLU()}
        if head_norm:
            head[f"norm{i}"] = nn.BatchNorm1d(width)
        features = width
    network.add_module("head", sequential(**head, logits=nn.Linear(features, num_classes)))
    return ImageClassifier(Preprocess((0.5,) * 3, (0.25,) * 3), network, image_size=IMAGE_SIZE)


_ADAM = replace(SGD_RECIPE, optimizer="adam", lr=0.001)
_card = functools.partial(
    ModelCard, family="report", paper="TDT4265 assignment 3, a report of 2021"
)
_model2 = functools.partial(
    report_model, kernel_size=3, convs_per_block=2, batch_norm=True, dropout=0.1
)

CARDS = (
    _card(
        name="report_baseline",
        summary="Three 5×5 convolutions, two linear layers.",
        builder=report_model,
        recipes={"standard": SGD_RECIPE},
    ),
    _card(
        name="report_model1",
        summary="The baseline with twice the filters and batch norm.",
        builder=functools.partial(
            report_model, filters=(64, 128, 256), batch_norm=True, head_norm=True
        ),
        recipes={"standard": replace(SGD_RECIPE, batch_size=32)},
    ),
    _card(
        name="report_model2",
        summary="Six 3×3 convolutions, batch norm, dropout, Adam.",
        builder=_model2,
        recipes={"standard": _ADAM},
    ),
    _card(
        name="report_best",
        summary="Model 2 with two to four times the filters.",
        builder=functools.partial(_model2, filters=(128, 128, 256), head_norm=True),
        recipes={"standard": _ADAM},
    ),
)
