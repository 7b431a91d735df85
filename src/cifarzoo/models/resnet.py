"""Residual networks for CIFAR-10: `resnet20`, `resnet32` and `resnet56`.

Source: He 2015 (arXiv 1512.03385), section 4.2. Three stages of 16, 32 and 64 filters with n blocks
each make 6n + 2 layers. Shortcuts have no parameters (option A): where the shape changes, they take
every second pixel and append channels of zeros. The paper reports 91.25, 92.49 and 93.03 %.

These are not ImageNet's ResNet-18 with its 11 million parameters. Implementations with 272,474
parameters for 20 layers use 1×1 convolutions as shortcuts (option B): 2,752 more at every depth.

Deviations: the recipe is ours. Zero channels are appended; the paper does not say where they go.
`cifarzoo.load_weights` builds the other shortcuts, for weights of other projects.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Literal, TypeAlias

from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head, sequential, stage
from cifarzoo.models.recipes import muon_recipe
from cifarzoo.recipe import Augmentation, Distillation, Recipe

__all__ = ["CARDS", "Shortcut", "resnet"]

Shortcut: TypeAlias = Literal["append", "center", "projection"]


class Block(nn.Module):
    """Residual block of two 3×3 convolutions.

    Where the shape changes, the shortcut takes every second pixel and adds channels of zeros after
    the others ("append") or on both sides ("center"), or is a 1×1 convolution with batch norm
    ("projection").
    """

    def __init__(
        self, channels_in: int, channels: int, stride: int, *, shortcut: Shortcut = "append"
    ) -> None:
        super().__init__()
        self.first = conv_norm(channels_in, channels, stride=stride, act=nn.ReLU())
        self.second = conv_norm(channels, channels)
        self.act = nn.ReLU()
        self.stride = stride
        new = channels - channels_in
        before = new // 2 if shortcut == "center" else 0
        self.new_channels = (before, new - before)
        self.shortcut: nn.Sequential | None = None
        if shortcut == "projection" and (stride > 1 or new):
            self.shortcut = conv_norm(channels_in, channels, 1, stride=stride)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or any(self.new_channels):
            subsampled = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(subsampled, (0, 0, 0, 0, *self.new_channels))
        activated: Tensor = self.act(y + x)
        return activated


def resnet(
    num_classes: int = 10, *, blocks_per_stage: int, shortcut: Shortcut = "append"
) -> ImageClassifier:
    """Build a residual network with random weights, for images of any size.

    Args:
        num_classes: length of the logits, at least 1.
        blocks_per_stage: n in the paper; the depth is 6n + 2.
        shortcut: where the shape changes, "append" adds channels of zeros after the others and
            "center" on both sides (option A); "projection" is a 1×1 convolution with batch norm
            (option B).
    """
    block = functools.partial(Block, shortcut=shortcut)
    network = sequential(
        stem=conv_norm(3, 16, act=nn.ReLU()),
        stage1=stage(block, 16, 16, blocks=blocks_per_stage, stride=1),
        stage2=stage(block, 16, 32, blocks=blocks_per_stage, stride=2),
        stage3=stage(block, 32, 64, blocks=blocks_per_stage, stride=2),
        head=pooled_head(64, num_classes),
    )
    return ImageClassifier(Preprocess(), he_normal(network))


_recipe = functools.partial(muon_recipe, muon_lr=0.24, sgd_lr=0.05)

# Small networks gain from long training on a teacher's predictions (arXiv 2106.05237). At 45 epochs
# the gain of resnet20 is within the noise.
_DISTILLED = replace(
    _recipe(epochs=45),
    augmentation=Augmentation(flip="alternating", translate=4, padding="reflect"),
    distillation=Distillation(teacher="sprint_m", weights="long"),
)


def _card(blocks_per_stage: int, size: str, **recipes: Recipe) -> ModelCard:
    depth = 6 * blocks_per_stage + 2
    return ModelCard(
        name=f"resnet{depth}",
        family="resnet",
        summary=f"The original CIFAR ResNet: {size} M parameters, not 11 M; option A shortcuts.",
        builder=functools.partial(resnet, blocks_per_stage=blocks_per_stage),
        recipes={"standard": _recipe(epochs=40), **recipes},
        paper="arXiv 1512.03385",
    )


CARDS = (
    _card(3, "0.27", long=_recipe(epochs=90), distilled=_DISTILLED),
    _card(5, "0.46"),
    _card(9, "0.85"),
)
