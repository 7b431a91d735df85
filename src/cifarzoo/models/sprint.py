"""A family built for wall-clock time: `sprint_s`, `sprint_m`, `sprint_m3` and `sprint_l`.

Source: the networks of airbench (Jordan 2024, arXiv 2404.00498), and its training with Muon
(kellerjordan.github.io/posts/muon). A first layer whitens patches of pixels; it is computed from
training images before the first step, and only its bias is trained, for a while. Filters begin by
passing their input on, and keep their norm; batch norms have no scale. The maximum over the whole
last map feeds a linear head. `sprint_l` has blocks of three convolutions, as airbench96 has, and
`sprint_m3` the same ones with as many parameters as `sprint_m`: more of them where maps are large.

Deviations: `sprint_s` has, in place of GELU, hardswish of 1.7 times its input: a multiple of GELU
to within 0.07, at a third of its cost. The 1.7 lies in the batch norms' scale and the whitening
filters. The head's factor 1/width is in its initial weights, which are normal; the whitening's
bias begins at zero and is trained for a third of the epochs; its filters are computed from
augmented images. Muon takes torch's five steps, not three.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from torch import Tensor, nn

from cifarzoo.errors import OptionError, one_of
from cifarzoo.models._recipes import long_sprint_recipe, sprint_recipe
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import Whitening, passing_conv, unscaled_norm
from cifarzoo.spec import Mixing, ModelCard, Recipe, Selection

__all__ = [
    "CARDS",
    "LARGE",
    "MEDIUM",
    "MEDIUM_DEEP",
    "SMALL",
    "SprintLayout",
    "SprintNetwork",
    "sprint_model",
]

ActivationName: TypeAlias = Literal["gelu", "hardswish"]

SHARPNESS = 1.7  # hardswish(1.7 x) / 1.7 is closest to gelu(x)


@dataclass(frozen=True, slots=True, kw_only=True)
class SprintLayout:
    """The numbers in which the networks differ.

    Attributes:
        filters: of each block's convolutions; every block halves the image.
        activation: "gelu", or "hardswish" for the same shape at less cost.
        convs_per_block: 2, or 3: the third one's result is added to the first one's.

    Raises:
        OptionError: a value is not allowed.
    """

    filters: tuple[int, ...]
    activation: ActivationName = "gelu"
    convs_per_block: int = 2

    def __post_init__(self) -> None:
        if not 1 <= len(self.filters) <= 4 or min(self.filters) < 1:
            raise OptionError(f"filters is {self.filters}; allowed: one to four blocks, each 1 up")
        if self.convs_per_block not in (2, 3):
            raise OptionError(f"convs_per_block is {self.convs_per_block}; allowed: 2, 3")
        if self.activation not in get_args(ActivationName):
            raise one_of("activation", self.activation, get_args(ActivationName))

    @property
    def gain(self) -> float:
        """What an activation's input is multiplied by."""
        return SHARPNESS if self.activation == "hardswish" else 1.0

    def act(self) -> nn.Module:
        """Build an activation."""
        return nn.Hardswish() if self.activation == "hardswish" else nn.GELU()


class Block(nn.Module):
    """Convolutions, each with batch norm and activation; the first one's map is pooled.

    Args:
        channels_in: of the maps that come in.
        channels: of the maps that go out, half as wide and high.
        layout: how many convolutions there are.
    """

    def __init__(self, channels_in: int, channels: int, layout: SprintLayout) -> None:
        super().__init__()
        norm = functools.partial(unscaled_norm, channels, layout.gain)
        first = {"conv": passing_conv(channels_in, channels), "pool": nn.MaxPool2d(2)}
        first |= {"norm": norm(), "act": layout.act()}
        rest = {"conv2": passing_conv(channels, channels), "norm2": norm()}
        if layout.convs_per_block == 3:
            rest |= {"act2": layout.act(), "conv3": passing_conv(channels, channels)}
            rest |= {"norm3": norm()}
        self.first = nn.Sequential(OrderedDict(first))
        self.rest = nn.Sequential(OrderedDict(rest))
        self.adds = layout.convs_per_block == 3
        self.act = layout.act()

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H//2,W//2) for maps (N,channels_in,H,W)."""
        first = self.first(maps)
        rest = self.rest(first)
        result: Tensor = self.act(rest + first if self.adds else rest)
        return result


class SprintNetwork(nn.Module):
    """Whitening, blocks, the maximum over what is left of the image, a linear layer."""

    def __init__(self, layout: SprintLayout, num_classes: int) -> None:
        super().__init__()
        self.whiten = Whitening(gain=layout.gain)
        self.act = layout.act()
        channels = (self.whiten.out_channels, *layout.filters)
        self.blocks = nn.Sequential(
            *(Block(before, after, layout) for before, after in itertools.pairwise(channels))
        )
        self.head = nn.Linear(channels[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / channels[-1])

    @property
    def needs_images(self) -> bool:
        """Whether the first layer is still to be computed from training images."""
        return self.whiten.needs_images

    def initialize_from(self, images: Tensor) -> None:
        """Compute the first layer from images (N,3,H,W), normalised."""
        self.whiten.initialize_from(images)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (N,num_classes) of normalised images (N,3,H,W)."""
        logits: Tensor = self.head(self.blocks(self.act(self.whiten(images))).amax((2, 3)))
        return logits


def sprint_model(layout: SprintLayout, num_classes: int = 10) -> ImageClassifier:
    """Build one of the networks, or a variation of it, with random weights.

    Args:
        layout: what it is made of.
        num_classes: length of the logits, 1 or more.

    Returns:
        A classifier of images (N,3,H,W), H and W from 2**blocks + 1 up: logits (N,num_classes).
    """
    network, smallest = SprintNetwork(layout, num_classes), 2 ** len(layout.filters) + 1
    return ImageClassifier(Preprocess(), network, min_image_size=smallest)


def _card(
    name: str, summary: str, layout: SprintLayout, recipe: Recipe, **more_recipes: Recipe
) -> ModelCard:
    return ModelCard(
        name=name,
        family="sprint",
        summary=summary,
        builder=functools.partial(sprint_model, layout),
        recipe=recipe,
        more_recipes=tuple(more_recipes.items()),
        paper="arXiv 2404.00498",
    )


SMALL = SprintLayout(filters=(32, 128, 128), activation="hardswish")
MEDIUM = SprintLayout(filters=(64, 256, 256))
MEDIUM_DEEP = SprintLayout(filters=(128, 192, 160), convs_per_block=3)
LARGE = SprintLayout(filters=(128, 384, 512), convs_per_block=3)

_S = "89 % in a minute on two cores with AMX; 90 % with six views."
_M = "93.4 % in five minutes on two cores with AMX; 94.2 % with six views."
_M3 = "94.7 % in 1.7 hours on two cores with bfloat16 units; 95.7 % with six views."
_L = "95.4 % in 1.5 hours on two cores with AMX; 95.55 % by its long recipe."
CUTMIX = Mixing(kind="cutmix", share=0.25)

CARDS = (
    _card("sprint_s", _S, SMALL, sprint_recipe(width=128, epochs=4, batch_size=500)),
    _card(
        "sprint_m",
        _M,
        MEDIUM,
        sprint_recipe(width=256, epochs=9, batch_size=2000),
        long=replace(long_sprint_recipe(width=256, epochs=64, batch_size=1000), mixing=CUTMIX),
    ),
    _card("sprint_m3", _M3, MEDIUM_DEEP, long_sprint_recipe(width=160, epochs=40, batch_size=1000)),
    _card(
        "sprint_l",
        _L,
        LARGE,
        long_sprint_recipe(width=512, epochs=48, batch_size=1000),
        long=long_sprint_recipe(width=512, epochs=80, batch_size=1000, selection=Selection()),
    ),
)
