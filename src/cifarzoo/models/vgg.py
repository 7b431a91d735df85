"""Plain stacks of 3×3 convolutions: `vgg11_bn` and `vgg16_bn`.

Source: Simonyan 2014 (arXiv 1409.1556), table 1, configurations A and D: five stages of 3×3
convolutions with ReLUs, each stage followed by 2×2 max pooling. The paper's three linear layers
count in the names.

Deviations: a batch norm (arXiv 1502.03167) follows every convolution, and there is one linear layer
instead of three, as in github.com/kuangliu/pytorch-cifar. The convolutions keep their biases,
although the batch norms cancel them. The recipe is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import nn

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import he_normal, pooled_head, sequential
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "vgg"]

FILTERS = (64, 128, 256, 512, 512)


def vgg(num_classes: int = 10, *, convs_per_stage: Sequence[int]) -> ImageClassifier:
    """Build a VGG with random weights, for images of at least 32×32 pixels.

    Args:
        num_classes: length of the logits, at least 1.
        convs_per_stage: number of convolutions in each of the five stages.
    """
    stages, channels = dict[str, nn.Module](), 3
    for i, (filters, convs) in enumerate(zip(FILTERS, convs_per_stage, strict=True), 1):
        layers: dict[str, nn.Module] = {}
        for j in range(1, convs + 1):
            layers[f"conv{j}"] = nn.Conv2d(channels, filters, 3, padding=1)
            layers[f"norm{j}"] = nn.BatchNorm2d(filters)
            layers[f"act{j}"] = nn.ReLU()
            channels = filters
        stages[f"stage{i}"] = sequential(**layers, pool=nn.MaxPool2d(2))
    network = sequential(**stages, head=pooled_head(channels, num_classes))
    return ImageClassifier(Preprocess(), he_normal(network), min_image_size=2 ** len(FILTERS))


def _card(name: str, summary: str, convs_per_stage: tuple[int, ...]) -> ModelCard:
    recipe = muon_recipe(epochs=16, muon_lr=0.24, sgd_lr=0.05, sgd_params=["*conv*.bias"])
    return ModelCard(
        name=name,
        family="vgg",
        summary=summary,
        builder=functools.partial(vgg, convs_per_stage=convs_per_stage),
        recipes={"standard": recipe},
        paper="arXiv 1409.1556",
    )


CARDS = (
    _card("vgg11_bn", "Eight 3×3 convolutions with batch norm, one linear layer.", (1, 1, 2, 2, 2)),
    _card("vgg16_bn", "Thirteen 3×3 convolutions, batch norm, one linear layer.", (2, 2, 3, 3, 3)),
)
