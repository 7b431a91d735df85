"""The residual networks that were made for CIFAR-10: `resnet20`, `resnet32` and `resnet56`.

Source: He 2015 (arXiv 1512.03385), section 4.2. These are the paper's narrow networks, of 0.27,
0.46 and 0.85 million parameters, and not ImageNet's ResNet-18 of 11 million that often stands in
for them. Three stages of 16, 32 and 64 filters have n blocks each, which makes 6n + 2 layers with
weights. Shortcuts have no parameters (option A): where the shape changes they take every second
pixel and add channels of zeros. The paper reports 91.25, 92.49 and 93.03 %. Where others count
272,474 parameters for the smallest, their shortcuts have 1×1 convolutions (option B).

Deviations: the recipe is the zoo's, not the paper's; the channels of zeros come last, which the
paper leaves open.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from cifarzoo.errors import OptionError
from cifarzoo.models._recipes import distilled_recipe, muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head, stage
from cifarzoo.spec import ModelCard, Recipe, require_whole

__all__ = ["CARDS", "RESNET20", "RESNET32", "RESNET56", "ResNetLayout", "resnet_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetLayout:
    """The numbers in which the networks differ.

    Attributes:
        blocks_per_stage: the paper's n, 1 or more.
        filters: of each stage's convolutions, never fewer than before; every stage but the first
            halves the image.

    Raises:
        OptionError: a value is not allowed.
    """

    blocks_per_stage: int
    filters: tuple[int, ...] = (16, 32, 64)

    def __post_init__(self) -> None:
        require_whole("blocks_per_stage", self.blocks_per_stage, 1, math.inf, "1 or more")
        for each in self.filters:
            require_whole("filters", each, 1, math.inf, "1 or more")
        if not self.filters or list(self.filters) != sorted(self.filters):
            raise OptionError(
                f"filters is {self.filters}; allowed: one or more stages, none narrower than "
                "the one before"
            )

    @property
    def depth(self) -> int:
        """Number of layers with weights: 6n + 2 where there are three stages."""
        return 2 * self.blocks_per_stage * len(self.filters) + 2


class Block(nn.Module):
    """Two 3×3 convolutions, each with batch norm, added to the block's input before a ReLU.

    Args:
        channels_in: of the maps that come in.
        channels: of the maps that go out, channels_in or more.
        stride: of the first convolution and the shortcut.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(channels_in, channels, stride=stride, act=nn.ReLU())
        self.second = conv_norm(channels, channels)
        self.act = nn.ReLU()
        self.stride = stride
        self.zeros = channels - channels_in

    def shortcut(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H/stride,W/stride): fewer pixels, and channels of zeros."""
        if self.stride == 1 and not self.zeros:
            return maps
        fewer = maps[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(fewer, (0, 0, 0, 0, 0, self.zeros))

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H/stride,W/stride) for maps (N,channels_in,H,W)."""
        result: Tensor = self.act(self.second(self.first(maps)) + self.shortcut(maps))
        return result


def resnet_model(layout: ResNetLayout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W) of any size: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    filters = layout.filters
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_norm(3, filters[0], act=nn.ReLU()))
    parts["stage1"] = stage(Block, filters[0], filters[0], blocks=layout.blocks_per_stage, stride=1)
    for i, (before, after) in enumerate(itertools.pairwise(filters), 2):
        parts[f"stage{i}"] = stage(Block, before, after, blocks=layout.blocks_per_stage, stride=2)
    parts["head"] = pooled_head(filters[-1], num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network)


def _card(layout: ResNetLayout, size: str, **more_recipes: Recipe) -> ModelCard:
    return ModelCard(
        name=f"resnet{layout.depth}",
        family="resnet",
        summary=f"The paper's own for CIFAR: {layout.depth} layers, {size} M parameters, not 11 M.",
        builder=functools.partial(resnet_model, layout),
        recipe=muon_recipe(epochs=40),
        more_recipes=tuple(more_recipes.items()),
        paper="arXiv 1512.03385",
    )


RESNET20 = ResNetLayout(blocks_per_stage=3)
RESNET32 = ResNetLayout(blocks_per_stage=5)
RESNET56 = ResNetLayout(blocks_per_stage=9)

CARDS = (
    _card(RESNET20, "0.27", long=muon_recipe(epochs=90), distilled=distilled_recipe(epochs=45)),
    _card(RESNET32, "0.46"),
    _card(RESNET56, "0.85"),
)
