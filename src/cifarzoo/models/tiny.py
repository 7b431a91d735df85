"""Networks of fewer than 0.1 million parameters: `tiny_s` and `tiny_m`.

Source: our own. Each of the three stages, at 32, 16 and 8 pixels, begins with a convolution that
sets its width; residual blocks (arXiv 1512.03385) follow. Every block runs twice, with the same
filters and separate batch norms (shared filters: arXiv 1605.06988), which doubles the depth at the
cost of a few parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import conv_norm, he_normal, pooled_head, sequential
from cifarzoo.models.recipes import muon_recipe

__all__ = ["CARDS", "tiny"]

PASSES = 2


class Block(nn.Module):
    """Residual block of two 3×3 convolutions, run twice with separate batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2 * PASSES))
        self.act = nn.ReLU()

    @override
    def forward(self, x: Tensor) -> Tensor:
        for i in range(0, 2 * PASSES, 2):
            y = self.act(self.norms[i](self.convs[0](x)))
            x = self.act(x + self.norms[i + 1](self.convs[1](y)))
        return x


def tiny(
    num_classes: int = 10, *, filters: Sequence[int], depths: Sequence[int]
) -> ImageClassifier:
    """Build a small network with random weights, for images (N,3,H,W).

    Args:
        num_classes: length of the logits, at least 1.
        filters: width of each stage; each stage but the first halves the image.
        depths: number of blocks in each stage.
    """
    layers, channels_in = dict[str, nn.Module](), 3
    for i, (channels, depth) in enumerate(zip(filters, depths, strict=True), 1):
        stride = 1 if i == 1 else 2
        layers[f"entry{i}"] = conv_norm(channels_in, channels, stride=stride, act=nn.ReLU())
        layers[f"stage{i}"] = nn.Sequential(*(Block(channels) for _ in range(depth)))
        channels_in = channels
    network = sequential(**layers, head=pooled_head(channels_in, num_classes))
    return ImageClassifier(Preprocess(), he_normal(network), min_image_size=2 ** (len(filters) - 1))


def _card(name: str, size: str, filters: tuple[int, ...], depths: tuple[int, ...]) -> ModelCard:
    return ModelCard(
        name=name,
        family="tiny",
        summary=f"Our own, with {size} thousand parameters: residual blocks that run twice.",
        builder=functools.partial(tiny, filters=filters, depths=depths),
        recipes={"standard": muon_recipe(epochs=60, muon_lr=0.24, sgd_lr=0.05)},
        paper="our own",
    )


CARDS = (
    _card("tiny_s", "42", filters=(12, 24, 32), depths=(1, 1, 1)),
    _card("tiny_m", "90", filters=(16, 32, 48), depths=(2, 1, 1)),
)
