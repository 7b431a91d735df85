"""Wide residual networks: `wrn_16_4` and `wrn_28_10`.

Source: Zagoruyko 2016 (arXiv 1605.07146), table 1: three stages of blocks with norms and ReLUs
before their convolutions, `widen` times as wide as the residual networks that were made for
CIFAR-10, and less deep. A batch norm and a ReLU follow the last block. "WRN-28-10" is depth 28,
ten times as wide.

Deviations: the recipe is the zoo's, not the paper's. The paper's depth counts the convolutions,
the first one and the three of the shortcuts among them: 28 is six times the 4 blocks of a stage,
and 4.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.models._recipes import muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import PreActBlock, he_normal, pooled_head, stage
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "WRN_16_4", "WRN_28_10", "WideLayout", "wide_model"]

STEM = 16  # filters of the first layer, and of the first stage before it is widened


@dataclass(frozen=True, slots=True, kw_only=True)
class WideLayout:
    """The numbers in which the networks differ.

    Attributes:
        depth: 10, 16, 22, 28 and so on: six times the blocks of a stage, and 4.
        widen: what the 16, 32 and 64 filters of the stages are multiplied by, 1 or more.
        dropout: probability between a block's convolutions, in [0, 1).

    Raises:
        OptionError: a value is not allowed.
    """

    depth: int
    widen: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_whole("depth", self.depth, 10, 10_000, "6 * blocks + 4")
        require_whole("widen", self.widen, 1, 10_000, "1 or more")
        if (self.depth - 4) % 6:
            raise OptionError(f"depth is {self.depth}; allowed: 6 * blocks + 4, such as 16 or 28")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; allowed: 0 up to, but not, 1")

    @property
    def blocks_per_stage(self) -> int:
        """Number of blocks in each of the three stages."""
        return (self.depth - 4) // 6

    @property
    def filters(self) -> tuple[int, int, int]:
        """Filters of the three stages' convolutions."""
        return STEM * self.widen, 2 * STEM * self.widen, 4 * STEM * self.widen


def wide_model(layout: WideLayout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W) of any size: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    block = functools.partial(PreActBlock, dropout=layout.dropout)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
    for i, (before, after) in enumerate(itertools.pairwise((STEM, *layout.filters)), 1):
        stride = 1 if i == 1 else 2
        parts[f"stage{i}"] = stage(
            block, before, after, blocks=layout.blocks_per_stage, stride=stride
        )
    parts["norm"] = nn.BatchNorm2d(layout.filters[-1])
    parts["act"] = nn.ReLU()
    parts["head"] = pooled_head(layout.filters[-1], num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network)


def _card(layout: WideLayout, size: str) -> ModelCard:
    return ModelCard(
        name=f"wrn_{layout.depth}_{layout.widen}",
        family="wide_resnet",
        summary=f"Wide ResNet: depth {layout.depth}, {layout.widen} times as wide, {size} M.",
        builder=functools.partial(wide_model, layout),
        recipe=muon_recipe(epochs=8),
        paper="arXiv 1605.07146",
    )


WRN_16_4 = WideLayout(depth=16, widen=4)
WRN_28_10 = WideLayout(depth=28, widen=10)

CARDS = (_card(WRN_16_4, "2.7"), _card(WRN_28_10, "36.5"))
