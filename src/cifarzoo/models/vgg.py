"""Plain stacks of 3×3 convolutions: `vgg11_bn` and `vgg16_bn`.

Source: Simonyan 2014 (arXiv 1409.1556), table 1, configurations A and D: five stages of
convolutions with ReLUs, each stage with a 2×2 maximum pooling at its end.

Deviations: a batch norm follows every convolution (arXiv 1502.03167, a year younger), and what
remains of the image, one pixel of 32, goes to a single linear layer in place of three, as in
github.com/kuangliu/pytorch-cifar. The convolutions keep their biases, though the batch norms undo
them; the names in the paper count the three linear layers. The recipe is the zoo's, not the
paper's.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from cifarzoo.errors import OptionError
from cifarzoo.models._recipes import muon_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import he_normal, pooled_head
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "VGG11", "VGG16", "VggLayout", "vgg_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VggLayout:
    """The numbers in which the networks differ.

    Attributes:
        convs_per_stage: 1 or more, for each stage.
        filters: of each stage's convolutions; every stage halves the image.

    Raises:
        OptionError: a value is not allowed.
    """

    convs_per_stage: tuple[int, ...]
    filters: tuple[int, ...] = (64, 128, 256, 512, 512)

    def __post_init__(self) -> None:
        for name in ("convs_per_stage", "filters"):
            for each in getattr(self, name):
                require_whole(name, each, 1, math.inf, "1 or more")
        if not self.filters or len(self.filters) != len(self.convs_per_stage):
            raise OptionError(
                f"convs_per_stage is {self.convs_per_stage}, filters {self.filters}; allowed: "
                "one number for each stage in both"
            )


def _stage(channels_in: int, channels: int, convs: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, convs + 1):
        layers[f"conv{i}"] = nn.Conv2d(channels_in if i == 1 else channels, channels, 3, padding=1)
        layers[f"norm{i}"] = nn.BatchNorm2d(channels)
        layers[f"act{i}"] = nn.ReLU()
    layers["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def vgg_model(layout: VggLayout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W), H and W from 2**stages up: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(itertools.pairwise((3, *layout.filters)), 1):
        parts[f"stage{i}"] = _stage(before, after, layout.convs_per_stage[i - 1])
    parts["head"] = pooled_head(layout.filters[-1], num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network, min_image_size=2 ** len(layout.filters))


def _card(name: str, summary: str, layout: VggLayout) -> ModelCard:
    return ModelCard(
        name=name,
        family="vgg",
        summary=summary,
        builder=functools.partial(vgg_model, layout),
        recipe=muon_recipe(epochs=16, sgd=("*conv*.bias",)),
        paper="arXiv 1409.1556",
    )


VGG11 = VggLayout(convs_per_stage=(1, 1, 2, 2, 2))
VGG16 = VggLayout(convs_per_stage=(2, 2, 3, 3, 3))

CARDS = (
    _card("vgg11_bn", "Eight 3×3 convolutions with batch norm, one linear layer.", VGG11),
    _card("vgg16_bn", "Thirteen 3×3 convolutions with batch norm, one linear layer.", VGG16),
)
