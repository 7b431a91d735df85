"""Inverted residuals with linear bottlenecks: `mobilenet_v2`.

Source: Sandler 2018 (arXiv 1801.04381), table 2, as torchvision builds it: a block widens its maps
by a 1×1 convolution, filters each channel for itself by a 3×3 one, and narrows them by a 1×1 one
without activation; the narrow maps are what is added up.

Deviations: stride 1, not 2, in the first convolution and in the stage of 24 channels, so that an
image of 32 pixels ends as a map of 4×4. The dropout before the linear layer is torchvision's. A
depthwise filter's first weights are drawn by the 9 it has, not by those of all channels. The recipe
is the zoo's, not the paper's.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from cifarzoo.errors import OptionError
from cifarzoo.models._recipes import muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head, stage
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "MOBILE", "MobileLayout", "MobileStage", "mobile_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileStage:
    """One row of the paper's table 2.

    Attributes:
        expansion: the paper's t: what a block widens its maps by, 1 or more.
        channels: the paper's c: of the narrow maps, 1 or more.
        blocks: the paper's n, 1 or more.
        stride: the paper's s: of the first block, 1 or 2.

    Raises:
        OptionError: a value is not allowed.
    """

    expansion: int
    channels: int
    blocks: int
    stride: int

    def __post_init__(self) -> None:
        for name in ("expansion", "channels", "blocks"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        require_whole("stride", self.stride, 1, 2, "1 or 2")


def _stages(*rows: tuple[int, int, int, int]) -> tuple[MobileStage, ...]:
    return tuple(MobileStage(expansion=t, channels=c, blocks=n, stride=s) for t, c, n, s in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileLayout:
    """The numbers that make a network.

    Attributes:
        stages: from the first one on.
        stem: channels of the first convolution, 1 or more.
        last: channels of the last convolution, 1 or more.
        dropout: probability before the linear layer, in [0, 1).

    Raises:
        OptionError: a value is not allowed.
    """

    stages: tuple[MobileStage, ...]
    stem: int = 32
    last: int = 1280
    dropout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("stem", "last"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        if not self.stages:
            raise OptionError("stages is (); allowed: one or more")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}; allowed: 0 up to, but not, 1")


class Block(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shape allows.

    Args:
        channels_in: of the maps that come in.
        channels: of the maps that go out.
        stride: of the 3×3 convolution.
        expansion: how many times as wide it is inside; 1 leaves the first convolution out.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers["widen"] = conv_norm(channels_in, inner, 1, act=nn.ReLU6())
        layers["filter"] = conv_norm(inner, inner, stride=stride, groups=inner, act=nn.ReLU6())
        layers["narrow"] = conv_norm(inner, channels, 1)
        self.layers = nn.Sequential(layers)
        self.adds = stride == 1 and channels_in == channels

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H/stride,W/stride) for maps (N,channels_in,H,W)."""
        result: Tensor = self.layers(maps)
        return maps + result if self.adds else result


def mobile_model(layout: MobileLayout, num_classes: int = 10) -> ImageClassifier:
    """Build the network, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W) of any size: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    channels = layout.stem
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_norm(3, channels, act=nn.ReLU6()))
    for i, row in enumerate(layout.stages, 1):
        block = functools.partial(Block, expansion=row.expansion)
        parts[f"stage{i}"] = stage(
            block, channels, row.channels, blocks=row.blocks, stride=row.stride
        )
        channels = row.channels
    parts["last"] = conv_norm(channels, layout.last, 1, act=nn.ReLU6())
    parts["head"] = head = pooled_head(layout.last, num_classes, dropout=layout.dropout)
    network = nn.Sequential(parts)
    he_normal(network)
    linear = head.get_submodule("linear")
    assert isinstance(linear, nn.Linear)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return ImageClassifier(Preprocess(), network)


MOBILE = MobileLayout(
    stages=_stages(
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
)

CARDS = (
    ModelCard(
        name="mobilenet_v2",
        family="mobilenet_v2",
        summary="Inverted residuals with depthwise filters, with strides for 32 pixels.",
        builder=functools.partial(mobile_model, MOBILE),
        recipe=muon_recipe(epochs=10, sgd=("*.filter.conv.weight",)),
        paper="arXiv 1801.04381",
    ),
)
