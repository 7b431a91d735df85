"""A network in which every layer sees all the maps before it: `densenet40_k12`.

Source: Huang 2016 (arXiv 1608.06993), section 3, as DenseNet-BC with depth 40 and growth rate 12:
three dense blocks of equal depth; each layer is a 1×1 convolution to four times as many channels
as it adds (B), then a 3×3 one; between the blocks a 1×1 convolution halves the channels (C) and
an average pooling the image.

Deviations: the recipe is the zoo's, not the paper's. The paper's table 2 has depth 40
and growth rate 12 without B and C only (1.0 M parameters), and DenseNet-BC from depth 100 up; the
number of parameters is that of pytorchcv's `densenet40_k12_bc_cifar10`.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError
from cifarzoo.models._recipes import muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import he_normal, pooled_head
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "DENSE40", "DenseLayout", "dense_model"]

BOTTLENECK = 4  # channels between a layer's convolutions, in units of the growth rate
BLOCKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayout:
    """The numbers that make a network.

    Attributes:
        depth: 10, 16 … 40 and so on: six times the layers of a block, and 4.
        growth: channels that each layer adds, 1 or more; the first convolution has twice as many.
        compression: share of the channels that is left between the blocks, above 0, at most 1.

    Raises:
        OptionError: a value is not allowed.
    """

    depth: int = 40
    growth: int = 12
    compression: float = 0.5

    def __post_init__(self) -> None:
        require_whole("depth", self.depth, 10, 10_000, "6 * layers + 4")
        require_whole("growth", self.growth, 1, 10_000, "1 or more")
        if (self.depth - 4) % 6:
            raise OptionError(f"depth is {self.depth}; allowed: 6 * layers + 4, such as 40 or 100")
        if not 0 < self.compression <= 1:
            raise OptionError(f"compression is {self.compression}; allowed: above 0, at most 1")

    @property
    def layers_per_block(self) -> int:
        """Number of layers, of two convolutions each, in each of the three blocks."""
        return (self.depth - 4) // 6


class Layer(nn.Module):
    """Two convolutions, each after its batch norm and ReLU; the result joins the input.

    Args:
        channels_in: of the maps that come in.
        growth: channels that are added.
    """

    def __init__(self, channels_in: int, growth: int) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)
        self.act = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels_in+growth,H,W) for maps (N,channels_in,H,W)."""
        inner = self.conv1(self.act(self.norm1(maps)))
        added = self.conv2(self.act(self.norm2(inner)))
        return torch.cat([maps, added], dim=1)


def _transition(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(channels_in),
            act=nn.ReLU(),
            conv=nn.Conv2d(channels_in, channels, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


def dense_model(layout: DenseLayout, num_classes: int = 10) -> ImageClassifier:
    """Build the network, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W), H and W from 4 up: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    growth, channels = layout.growth, 2 * layout.growth
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    for i in range(1, BLOCKS + 1):
        if i > 1:
            left = max(1, int(channels * layout.compression))
            parts[f"transition{i - 1}"] = _transition(channels, left)
            channels = left
        layers = (Layer(channels + j * growth, growth) for j in range(layout.layers_per_block))
        parts[f"block{i}"] = nn.Sequential(*layers)
        channels += growth * layout.layers_per_block
    parts["norm"] = nn.BatchNorm2d(channels)
    parts["act"] = nn.ReLU()
    parts["head"] = pooled_head(channels, num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network, min_image_size=2 ** (BLOCKS - 1))


DENSE40 = DenseLayout()

CARDS = (
    ModelCard(
        name="densenet40_k12",
        family="densenet",
        summary="DenseNet-BC of depth 40 and growth rate 12: 0.18 M parameters.",
        builder=functools.partial(dense_model, DENSE40),
        recipe=muon_recipe(epochs=16),
        paper="arXiv 1608.06993",
    ),
)
