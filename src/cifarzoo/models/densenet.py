"""Densely connected network: `densenet40_k12_bc`.

Source: Huang 2016 (arXiv 1608.06993), section 3, as DenseNet-BC: each layer is a 1×1 convolution to
four times the growth rate (B) and a 3×3 one, and appends its output to its input. Between the three
blocks a 1×1 convolution halves the channels (C) and average pooling halves the image.

Deviations: the recipe is ours. Table 2 of the paper lists depth 40 with growth rate 12 only without
B and C (1.0 M parameters); this network is pytorchcv's `densenet40_k12_bc_cifar10`, not its
`densenet40_k12_cifar10` (599,050 parameters).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import he_normal, pooled_head, sequential
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "densenet"]


class Layer(nn.Module):
    """Bottleneck layer that appends `growth` channels to its input."""

    def __init__(self, channels_in: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.act = nn.ReLU()

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(self.act(self.norm1(x)))
        return torch.cat([x, self.conv2(self.act(self.norm2(hidden)))], dim=1)


def densenet(num_classes: int = 10, *, depth: int, growth: int) -> ImageClassifier:
    """Build a DenseNet-BC with random weights, for images of at least 4×4 pixels.

    Args:
        num_classes: length of the logits, at least 1.
        depth: 6n + 4 for n layers per block.
        growth: channels that each layer adds.
    """
    channels, layers_per_block = 2 * growth, (depth - 4) // 6
    layers: dict[str, nn.Module] = {"stem": nn.Conv2d(3, channels, 3, padding=1, bias=False)}
    for i in (1, 2, 3):
        if i > 1:
            layers[f"transition{i - 1}"] = sequential(
                norm=nn.BatchNorm2d(channels),
                act=nn.ReLU(),
                conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                pool=nn.AvgPool2d(2),
            )
            channels //= 2
        widths = [channels + growth * j for j in range(layers_per_block)]
        layers[f"block{i}"] = nn.Sequential(*(Layer(width, growth) for width in widths))
        channels += growth * layers_per_block
    layers |= {"norm": nn.BatchNorm2d(channels), "act": nn.ReLU()}
    network = sequential(**layers, head=pooled_head(channels, num_classes))
    return ImageClassifier(Preprocess(), he_normal(network), min_image_size=4)


CARDS = (
    ModelCard(
        name="densenet40_k12_bc",
        family="densenet",
        summary="DenseNet-BC of depth 40 and growth rate 12: 0.18 M parameters.",
        builder=functools.partial(densenet, depth=40, growth=12),
        recipes={"standard": muon_recipe(epochs=16, muon_lr=0.24, sgd_lr=0.05)},
        paper="arXiv 1608.06993",
    ),
)
