"""A residual network with norms and ReLUs before its convolutions: `preact_resnet18`.

Source: He 2016 (arXiv 1603.05027), figure 4e and the appendix: what a block adds to its input goes
through no ReLU, and a batch norm and a ReLU follow the last block. Depth and widths are those of
ImageNet's ResNet-18 (arXiv 1512.03385, table 1): four stages of two blocks, 64 to 512 filters.

Deviations: the first layer is a 3×3 convolution of stride 1 without pooling, as in
github.com/kuangliu/pytorch-cifar, since an image of 32 pixels would be down to 8 before the first
block. That repository's PreActResNet18 lacks the last norm, and has 1,024 parameters less. The
recipe is the zoo's, not the paper's.
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
from cifarzoo.models.layers import PreActBlock, he_normal, pooled_head, stage
from cifarzoo.spec import ModelCard, require_whole

__all__ = ["CARDS", "PREACT18", "PreActLayout", "preact_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreActLayout:
    """The numbers that make a network.

    Attributes:
        filters: of each stage's convolutions; every stage but the first halves the image.
        blocks_per_stage: 1 or more, for each stage.

    Raises:
        OptionError: a value is not allowed.
    """

    filters: tuple[int, ...] = (64, 128, 256, 512)
    blocks_per_stage: tuple[int, ...] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        for name in ("filters", "blocks_per_stage"):
            for each in getattr(self, name):
                require_whole(name, each, 1, math.inf, "1 or more")
        if not self.filters or len(self.filters) != len(self.blocks_per_stage):
            raise OptionError(
                f"filters is {self.filters}, blocks_per_stage {self.blocks_per_stage}; allowed: "
                "one number for each stage in both"
            )


def preact_model(layout: PreActLayout, num_classes: int = 10) -> ImageClassifier:
    """Build the network, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W) of any size: logits (N,num_classes).

    Raises:
        OptionError: num_classes is under 1.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    channels = (layout.filters[0], *layout.filters)
    parts["stem"] = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
    for i, (before, after) in enumerate(itertools.pairwise(channels), 1):
        blocks = layout.blocks_per_stage[i - 1]
        stride = 1 if i == 1 else 2
        parts[f"stage{i}"] = stage(PreActBlock, before, after, blocks=blocks, stride=stride)
    parts["norm"] = nn.BatchNorm2d(channels[-1])
    parts["act"] = nn.ReLU()
    parts["head"] = pooled_head(channels[-1], num_classes)
    network = nn.Sequential(parts)
    he_normal(network)
    return ImageClassifier(Preprocess(), network)


PREACT18 = PreActLayout()

CARDS = (
    ModelCard(
        name="preact_resnet18",
        family="preact_resnet",
        summary="The usual 11 M ResNet-18 for CIFAR, with norms before the convolutions.",
        builder=functools.partial(preact_model, PREACT18),
        recipe=muon_recipe(epochs=8),
        paper="arXiv 1603.05027",
    ),
)
