"""A family of our own under 0.1 million parameters: `tiny_s` and `tiny_m`.

Source: none but the zoo; the parts are others'. Three stages at 32, 16 and 8 pixels begin with a
convolution that changes the channels and, after the first one, halves the image. The blocks behind
it keep the shape: pairs of 3×3 convolutions (arXiv 1512.03385), or inverted bottlenecks with
depthwise filters (arXiv 1801.04381). Either may weigh its channels (squeeze and excitation, arXiv
1709.01507), and may run more than once with the same filters and norms of its own for each pass
(as arXiv 1605.06988 shares them): that deepens a network for time, but hardly a parameter.

Deviations: the halving convolution has no shortcut beside it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from torch import Tensor, nn

from cifarzoo.errors import OptionError, one_of
from cifarzoo.models._recipes import muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "TINY_M", "TINY_S", "TinyLayout", "tiny_model"]

BlockName: TypeAlias = Literal["pair", "inverted"]
ActivationName: TypeAlias = Literal["relu", "silu", "hardswish"]

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish}


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyLayout:
    """The numbers in which the networks differ.

    Attributes:
        filters: of each stage; every stage but the first halves the image.
        depths: number of blocks of each stage, 0 or more.
        block: "pair" of 3×3 convolutions, or "inverted" bottleneck.
        passes: how many times each block runs, 1 or more.
        groups: of a pair's convolutions; divides the filters.
        expansion: how many times as wide an inverted bottleneck is inside, 1 or more.
        kernel_size: side in pixels of its depthwise filters, odd.
        entry_kernel_size: side in pixels of the convolutions that halve the image, 2 or 3.
        squeeze: how many times narrower than its block a squeeze is; 0 for none.
        activation: "relu", "silu" or "hardswish".

    Raises:
        OptionError: a value is not allowed.
    """

    filters: tuple[int, ...]
    depths: tuple[int, ...]
    block: BlockName = "pair"
    passes: int = 1
    groups: int = 1
    expansion: int = 4
    kernel_size: int = 3
    entry_kernel_size: int = 3
    squeeze: int = 0
    activation: ActivationName = "relu"

    def __post_init__(self) -> None:
        for name, alias in (("block", BlockName), ("activation", ActivationName)):
            if getattr(self, name) not in get_args(alias):
                raise one_of(name, getattr(self, name), get_args(alias))
        if not self.filters or len(self.filters) != len(self.depths):
            raise OptionError(
                f"filters is {self.filters}, depths {self.depths}; allowed: one number for each "
                "stage in both"
            )
        for name in ("passes", "groups", "expansion", "kernel_size"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        require_whole("entry_kernel_size", self.entry_kernel_size, 2, 3, "2 or 3")
        require_whole("squeeze", self.squeeze, 0, math.inf, "0 or more")
        for width, depth in zip(self.filters, self.depths, strict=True):
            require_whole("filters", width, 1, math.inf, "1 or more")
            require_whole("depths", depth, 0, math.inf, "0 or more")
        if any(width % self.groups for width in self.filters):
            raise OptionError(f"groups is {self.groups}; allowed: what divides {self.filters}")
        if self.kernel_size % 2 == 0:
            raise OptionError(f"kernel_size is {self.kernel_size}; allowed: odd numbers from 1")

    def act(self) -> nn.Module:
        """Build an activation."""
        return ACTIVATIONS[self.activation]()


def _convs(channels: int, layout: TinyLayout) -> list[nn.Conv2d]:
    """Build a block's convolutions, which keep the shape from the first one to the last."""
    if layout.block == "pair":
        pair = functools.partial(nn.Conv2d, padding=1, groups=layout.groups, bias=False)
        return [pair(channels, channels, 3), pair(channels, channels, 3)]
    inner, side = channels * layout.expansion, layout.kernel_size
    return [
        nn.Conv2d(channels, inner, 1, bias=False),
        nn.Conv2d(inner, inner, side, padding=side // 2, groups=inner, bias=False),
        nn.Conv2d(inner, channels, 1, bias=False),
    ]


class Squeeze(nn.Sequential):
    """Weights between 0 and 1 (N,channels,1,1) for maps (N,channels,H,W), made of their means."""

    def __init__(self, channels: int, layout: TinyLayout) -> None:
        inner = max(1, channels // layout.squeeze)
        parts: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1)}
        parts |= {"narrow": nn.Conv2d(channels, inner, 1), "act": layout.act()}
        parts |= {"widen": nn.Conv2d(inner, channels, 1), "gate": nn.Sigmoid()}
        super().__init__(OrderedDict(parts))


class Block(nn.Module):
    """Convolutions, each with its batch norm, added to what comes in; `passes` times over.

    Args:
        channels: of the maps that come in and go out.
        layout: what the block is made of.
    """

    def __init__(self, channels: int, layout: TinyLayout) -> None:
        super().__init__()
        convs = _convs(channels, layout)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(conv.out_channels) for _ in range(layout.passes) for conv in convs
        )
        self.weigh = Squeeze(channels, layout) if layout.squeeze else None
        self.act = layout.act()
        self.last = layout.act() if layout.block == "pair" else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H,W) for maps (N,channels,H,W)."""
        n = len(self.convs)
        for done in range(0, len(self.norms), n):
            inner = maps
            for i, conv in enumerate(self.convs):
                inner = self.norms[done + i](conv(self.act(inner) if i else inner))
            if self.weigh is not None:
                inner = inner * self.weigh(inner)
            maps = self.last(maps + inner)
        return maps


def tiny_model(layout: TinyLayout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W), H and W from 2**(stages - 1) up: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    filters = layout.filters
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(itertools.pairwise((3, *filters)), 1):
        side, stride = (3, 1) if i == 1 else (layout.entry_kernel_size, 2)
        parts[f"entry{i}"] = conv_norm(before, after, side, stride=stride, act=layout.act())
        parts[f"stage{i}"] = nn.Sequential(
            *(Block(after, layout) for _ in range(layout.depths[i - 1]))
        )
    parts["head"] = pooled_head(filters[-1], num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network, min_image_size=2 ** (len(filters) - 1))


def _card(name: str, summary: str, layout: TinyLayout) -> ModelCard:
    return ModelCard(
        name=name,
        family="tiny",
        summary=summary,
        builder=functools.partial(tiny_model, layout),
        recipe=muon_recipe(epochs=60),
        paper="the zoo's own",
    )


TINY_S = TinyLayout(filters=(12, 24, 32), depths=(1, 1, 1), passes=2)
TINY_M = TinyLayout(filters=(16, 32, 48), depths=(2, 1, 1), passes=2)

CARDS = (
    _card("tiny_s", "Our own of 42 thousand parameters: pairs of 3×3, each run twice.", TINY_S),
    _card("tiny_m", "Our own of 90 thousand parameters: pairs of 3×3, each run twice.", TINY_M),
)
