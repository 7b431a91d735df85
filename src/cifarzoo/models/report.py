"""The report's four convolutional networks.

Source: a report on assignment 3 of TDT4265 (Computer Vision and Deep Learning, NTNU, 2021), tasks 2
and 3. All four are one layout with other numbers. The report's tables are what is built here; the
code behind the report differed from them in two places: it left out the ReLU between the two
convolutions of blocks 2 and 3, and had a batch norm in model 2's head.

Pixels are normalised with mean 0.5 and standard deviation 0.25 per channel, as the report did.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from torch import nn

from cifarzoo.errors import OptionError, one_of
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.spec import EarlyStopping, ModelCard, Recipe, require_whole

__all__ = ["CARDS", "BASELINE", "BEST", "MODEL1", "MODEL2", "Layout", "report_model"]

NormName: TypeAlias = Literal["none", "batch"]

IMAGE_SIZE = 32
PAPER = "TDT4265 assignment 3, a report of 2021"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The numbers in which the report's networks differ.

    Attributes:
        filters: of each block's convolutions; every block halves the image.
        kernel_size: side of the kernels, odd; stride 1, padded to keep the size.
        convs_per_block: number of convolutions, each with its ReLU, before the block's pooling.
        block_norm: whether a batch norm follows a block's last ReLU.
        dropout: probability at each block's end, in [0, 1).
        hidden: units of the head's hidden layers, each with its ReLU.
        head_norm: whether a batch norm follows each hidden layer's ReLU.

    Raises:
        OptionError: more blocks than a 32-pixel image can be halved, an even kernel, or another
            value that is not allowed.
    """

    filters: tuple[int, ...] = (32, 64, 128)
    kernel_size: int = 5
    convs_per_block: int = 1
    block_norm: NormName = "none"
    dropout: float = 0.0
    hidden: tuple[int, ...] = (64,)
    head_norm: NormName = "none"

    def __post_init__(self) -> None:
        if not 1 <= len(self.filters) <= 5:
            raise OptionError(f"filters is {self.filters}; allowed: one to five blocks")
        for name, values in (("filters", self.filters), ("hidden", self.hidden)):
            for value in values:
                require_whole(name, value, 1, math.inf, "1 or more")
        for name in ("kernel_size", "convs_per_block"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        if self.kernel_size % 2 == 0:
            raise OptionError(f"kernel_size is {self.kernel_size}; allowed: odd numbers from 1")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; allowed: 0 up to, but not, 1")
        for name in ("block_norm", "head_norm"):
            if getattr(self, name) not in get_args(NormName):
                raise one_of(name, getattr(self, name), get_args(NormName))


def _block(layout: Layout, channels_in: int, channels: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, layout.convs_per_block + 1):
        layers[f"conv{i}"] = nn.Conv2d(
            channels_in if i == 1 else channels,
            channels,
            layout.kernel_size,
            padding=layout.kernel_size // 2,
        )
        layers[f"relu{i}"] = nn.ReLU()
    if layout.block_norm == "batch":
        layers["norm"] = nn.BatchNorm2d(channels)
    layers["pool"] = nn.MaxPool2d(2)
    if layout.dropout:
        layers["dropout"] = nn.Dropout(layout.dropout)
    return nn.Sequential(layers)


def _head(layout: Layout, features: int, num_classes: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, units in enumerate(layout.hidden, 1):
        layers[f"linear{i}"] = nn.Linear(features, units)
        layers[f"relu{i}"] = nn.ReLU()
        if layout.head_norm == "batch":
            layers[f"norm{i}"] = nn.BatchNorm1d(units)
        features = units
    layers["logits"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)


def _features(layout: Layout) -> int:
    side = IMAGE_SIZE >> len(layout.filters)
    return layout.filters[-1] * side * side


def report_model(layout: Layout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the report's networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,32,32): logits (N,num_classes).

    Example:
        >>> from dataclasses import replace
        >>> from cifarzoo.models.report import BASELINE, report_model
        >>> wider = report_model(replace(BASELINE, filters=(64, 128, 256)))
    """
    channels = (3, *layout.filters)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(itertools.pairwise(channels), 1):
        layers[f"block{i}"] = _block(layout, before, after)
    layers["head"] = _head(layout, _features(layout), num_classes)
    return ImageClassifier(
        Preprocess((0.5,) * 3, (0.25,) * 3), nn.Sequential(layers), image_size=IMAGE_SIZE
    )


BASELINE = Layout()
MODEL1 = Layout(filters=(64, 128, 256), block_norm="batch", head_norm="batch")
MODEL2 = Layout(kernel_size=3, convs_per_block=2, block_norm="batch", dropout=0.1)
BEST = replace(MODEL2, filters=(128, 128, 256), head_norm="batch")

_SGD = Recipe(
    epochs=10,
    batch_size=64,
    optimizer="sgd",
    lr=0.05,
    checks_per_epoch=2,
    early_stopping=EarlyStopping(patience=4),
)
_ADAM = replace(_SGD, optimizer="adam", lr=0.001)


def _card(name: str, summary: str, layout: Layout, recipe: Recipe) -> ModelCard:
    return ModelCard(
        name=name,
        family="report",
        summary=summary,
        builder=functools.partial(report_model, layout),
        recipe=recipe,
        paper=PAPER,
    )


CARDS = (
    _card("report_baseline", "Three 5×5 convolutions, two linear layers.", BASELINE, _SGD),
    _card(
        "report_model1",
        "The baseline with twice the filters and batch norm.",
        MODEL1,
        replace(_SGD, batch_size=32),
    ),
    _card("report_model2", "Six 3×3 convolutions, batch norm, dropout, Adam.", MODEL2, _ADAM),
    _card("report_best", "Model 2 with two to four times the filters.", BEST, _ADAM),
)
