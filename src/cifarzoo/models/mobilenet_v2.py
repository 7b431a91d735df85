"""Inverted residuals with linear bottlenecks: `mobilenet_v2`.

Source: Sandler 2018 (arXiv 1801.04381), table 2, in torchvision's implementation, which has dropout
before the linear layer.

Deviations: the first convolution and the stage of 24 channels have stride 1 instead of 2, so that
32×32 images end as 4×4 maps. Depthwise filters are initialised for a fan-out of 9 instead of 9
times the channels. The recipe is ours.
"""

from __future__ import annotations

import functools

from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head, sequential, stage
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "mobilenet_v2"]

STAGES = (  # expansion, channels, blocks and stride of the first block: t, c, n, s in table 2
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Block(nn.Module):
    """Inverted residual: 1×1 expansion, depthwise 3×3 filter, linear 1×1 projection."""

    def __init__(self, channels_in: int, channels: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        layers: dict[str, nn.Module] = {}
        if expansion != 1:
            layers["widen"] = conv_norm(channels_in, inner, 1, act=nn.ReLU6())
        layers["filter"] = conv_norm(inner, inner, stride=stride, groups=inner, act=nn.ReLU6())
        self.layers = sequential(**layers, narrow=conv_norm(inner, channels, 1))
        self.has_shortcut = stride == 1 and channels_in == channels

    @override
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


def mobilenet_v2(num_classes: int = 10) -> ImageClassifier:
    """Build a MobileNetV2 with random weights, for images (N,3,H,W) of any size."""
    layers: dict[str, nn.Module] = {"stem": conv_norm(3, 32, act=nn.ReLU6())}
    channels_in = 32
    for i, (expansion, channels, blocks, stride) in enumerate(STAGES, 1):
        block = functools.partial(Block, expansion=expansion)
        layers[f"stage{i}"] = stage(block, channels_in, channels, blocks=blocks, stride=stride)
        channels_in = channels
    layers["last"] = conv_norm(channels_in, 1280, 1, act=nn.ReLU6())
    network = he_normal(sequential(**layers, head=pooled_head(1280, num_classes, dropout=0.2)))
    nn.init.normal_(network.get_parameter("head.linear.weight"), std=0.01)
    nn.init.zeros_(network.get_parameter("head.linear.bias"))
    return ImageClassifier(Preprocess(), network)


_RECIPE = muon_recipe(epochs=10, muon_lr=0.24, sgd_lr=0.05, sgd_params=["*.filter.conv.weight"])

CARDS = (
    ModelCard(
        name="mobilenet_v2",
        family="mobilenet_v2",
        summary="Inverted residuals with depthwise convolutions, strides for 32 pixels.",
        builder=mobilenet_v2,
        recipes={"standard": _RECIPE},
        paper="arXiv 1801.04381",
    ),
)
