"""Wide residual networks: `wrn_16_4` and `wrn_28_10`.

Source: Zagoruyko 2016 (arXiv 1605.07146), table 1: three stages of pre-activation blocks, `widen`
times as wide as the residual networks for CIFAR-10. A batch norm and a ReLU follow the last block.
The depth counts the convolutions: the first one, two per block and three shortcuts.

Deviations: no dropout; the recipe is ours.
"""

from __future__ import annotations

import functools

from torch import nn

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import PreActBlock, he_normal, pooled_head, sequential, stage
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "wide_resnet"]


def wide_resnet(num_classes: int = 10, *, depth: int, widen: int) -> ImageClassifier:
    """Build a wide residual network with random weights, for images of any size.

    Args:
        num_classes: length of the logits, at least 1.
        depth: 6n + 4 for n blocks per stage.
        widen: multiplies the 16, 32 and 64 filters of the stages.
    """
    blocks = (depth - 4) // 6
    narrow, middle, wide = 16 * widen, 32 * widen, 64 * widen
    network = sequential(
        stem=nn.Conv2d(3, 16, 3, padding=1, bias=False),
        stage1=stage(PreActBlock, 16, narrow, blocks=blocks, stride=1),
        stage2=stage(PreActBlock, narrow, middle, blocks=blocks, stride=2),
        stage3=stage(PreActBlock, middle, wide, blocks=blocks, stride=2),
        norm=nn.BatchNorm2d(wide),
        act=nn.ReLU(),
        head=pooled_head(wide, num_classes),
    )
    return ImageClassifier(Preprocess(), he_normal(network))


def _card(depth: int, widen: int, size: str) -> ModelCard:
    return ModelCard(
        name=f"wrn_{depth}_{widen}",
        family="wide_resnet",
        summary=f"Wide ResNet of depth {depth}, {widen} times as wide: {size} M parameters.",
        builder=functools.partial(wide_resnet, depth=depth, widen=widen),
        recipes={"standard": muon_recipe(epochs=8, muon_lr=0.24, sgd_lr=0.05)},
        paper="arXiv 1605.07146",
    )


CARDS = (_card(16, 4, "2.7"), _card(28, 10, "36.5"))
