"""Networks that train quickly: `sprint_s`, `sprint_m`, `sprint_m3`, `sprint_l`.

Source: airbench (Jordan 2024, arXiv 2404.00498) and its training with Muon
(kellerjordan.github.io/posts/muon). The first layer whitens image patches; its filters are computed
from training images before the first step, and only its bias is trained, for a third of the epochs.
The other filters initially pass their input through, and keep their norm. Batch norms have no
trained scale. The linear head takes the maximum of each map. `sprint_m` is airbench94_muon's
network; `sprint_l` has three convolutions per block, as airbench96 does, and `sprint_m3` has three
with as many parameters as `sprint_m`.

Deviations: `sprint_s` replaces GELU by hardswish(1.7 x) / 1.7, which differs by at most 0.07 at a
third of the cost; the 1.7 is part of the batch norms' scale and of the whitening filters. The
head's factor 1/width is part of its initial weights, which are normal. The whitening bias starts at
zero, and the filters are computed from augmented images. Muon takes torch's five steps, not three.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.card import ModelCard
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.models.layers import Whitening, dirac_conv, sequential
from cifarzoo.recipe import Augmentation, Mixing, ParamGroup, Recipe
from cifarzoo.validation import PositiveInt, validate

__all__ = ["CARDS", "sprint"]

HARDSWISH_GAIN = 1.7  # hardswish(1.7 x) / 1.7 is closest to gelu(x)
WEAK = Augmentation(flip="alternating", translate=2, padding="reflect")
STRONG = replace(WEAK, translate=4, cutout=12)
EPS = 1e-12
SAFE_EPS = 1e-5  # torch's default


def _norm(channels: int, gain: float) -> nn.BatchNorm2d:
    """Return a batch norm with a fixed scale and statistics that adapt quickly."""
    norm = nn.BatchNorm2d(channels, eps=EPS, momentum=0.4)
    nn.init.constant_(norm.weight, gain)
    norm.weight.requires_grad = False
    return norm


class Block(nn.Module):
    """Two convolutions with batch norms, or three with a shortcut around two."""

    def __init__(
        self, channels_in: int, channels: int, convs: int, act: type[nn.Module], gain: float
    ) -> None:
        super().__init__()
        self.first = sequential(
            conv=dirac_conv(channels_in, channels),
            pool=nn.MaxPool2d(2),
            norm=_norm(channels, gain),
            act=act(),
        )
        rest: dict[str, nn.Module] = {"conv2": dirac_conv(channels, channels)}
        rest["norm2"] = _norm(channels, gain)
        if convs == 3:
            rest |= {"act2": act(), "conv3": dirac_conv(channels, channels)}
            rest["norm3"] = _norm(channels, gain)
        self.rest = sequential(**rest)
        self.has_shortcut = convs == 3
        self.act = act()

    @override
    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        rest = self.rest(first)
        y: Tensor = self.act(rest + first if self.has_shortcut else rest)
        return y


class SprintNetwork(nn.Module):
    """Whitening, blocks, global max pooling and a linear layer."""

    def __init__(
        self, num_classes: int, filters: Sequence[int], convs: int, act: type[nn.Module]
    ) -> None:
        super().__init__()
        gain = HARDSWISH_GAIN if act is nn.Hardswish else 1.0
        self.whiten = Whitening(gain=gain)
        self.act = act()
        pairs = itertools.pairwise((self.whiten.out_channels, *filters))
        self.blocks = nn.Sequential(*(Block(*pair, convs, act, gain) for pair in pairs))
        self.head = nn.Linear(filters[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / filters[-1])
        self.register_load_state_dict_post_hook(_choose_eps)  # type: ignore[no-untyped-call]

    @property
    def needs_images(self) -> bool:
        """Whether the whitening filters must still be computed."""
        return self.whiten.needs_images

    def initialize_from(self, images: Tensor) -> None:
        """Compute the whitening filters from normalised images (N,3,H,W)."""
        self.whiten.initialize_from(images)
        _choose_eps(self)

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.act(self.whiten(x))).amax((2, 3)))
        return logits


def _choose_eps(network: SprintNetwork, _: object = None) -> None:
    """Set the eps of the batch norms, whenever the whitening filters are set.

    Images of one colour make maps without variance. The gradient of each norm of such a map is
    1/sqrt(eps) times as large, which overflows.
    """
    if network.whiten.weight.is_meta:
        return
    eps = SAFE_EPS if network.whiten.lacks_variance else EPS
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = eps


def sprint(
    num_classes: int = 10,
    *,
    filters: Sequence[int],
    convs_per_block: int = 2,
    activation: type[nn.Module] = nn.GELU,
) -> ImageClassifier:
    """Build a sprint network with random weights, for images (N,3,H,W).

    Args:
        num_classes: length of the logits, at least 1.
        filters: width of each block; each block halves the image.
        convs_per_block: 2 or 3.
        activation: `nn.GELU` or `nn.Hardswish`.
    """
    validate("num_classes", num_classes, PositiveInt)
    network = SprintNetwork(num_classes, filters, convs_per_block, activation)
    return ImageClassifier(Preprocess(), network, min_image_size=2 ** len(filters) + 1)


def _recipe(
    *,
    width: int,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation = WEAK,
    image_sizes: tuple[int, ...] = (),
) -> Recipe:
    """Return airbench94_muon's recipe, converted from sums of losses to means."""
    decay = 2e-6 * batch_size  # per step at the peak learning rate
    bias_lr, head_lr = 0.053 * batch_size, 0.67 * batch_size / width**2
    sgd = ParamGroup(params="*", optimizer="sgd", momentum=0.85)
    biases = replace(sgd, lr=bias_lr, weight_decay=decay / bias_lr)
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="muon",
        lr=0.24 * math.sqrt(batch_size / 2000),
        momentum=0.6,
        nesterov=True,
        groups=(
            replace(biases, params="*.whiten.bias", epochs=epochs / 3),
            replace(biases, params="*.norm*.bias"),
            replace(sgd, params="*.head.weight", lr=head_lr, weight_decay=decay / head_lr),
            ParamGroup(params="*.conv*.weight", fix_norm=True),
        ),
        schedule="linear",
        label_smoothing=0.2,
        keep="last",
        val_fraction=0.0,
        augmentation=augmentation,
        image_sizes=image_sizes,
    )


_long_recipe = functools.partial(_recipe, batch_size=1000, augmentation=STRONG)
_card = functools.partial(ModelCard, family="sprint", paper="arXiv 2404.00498")

CARDS = (
    _card(
        name="sprint_s",
        summary="88.8 % in three minutes on two cores in float32; 90 % with TTA.",
        builder=functools.partial(sprint, filters=(32, 128, 128), activation=nn.Hardswish),
        recipes={
            "standard": _recipe(
                width=128, epochs=5, batch_size=500, image_sizes=(16, 20, 24, 28, 32)
            )
        },
    ),
    _card(
        name="sprint_m",
        summary="93.4 % in five minutes on two AMX cores; 94.2 % with TTA.",
        builder=functools.partial(sprint, filters=(64, 256, 256)),
        recipes={
            "standard": _recipe(width=256, epochs=9, batch_size=2000),
            "long": replace(
                _long_recipe(width=256, epochs=64), mixing=Mixing(kind="cutmix", share=0.25)
            ),
        },
    ),
    _card(
        name="sprint_m3",
        summary="94.7 % in 1.7 hours on two bfloat16 cores; 95.7 % with TTA.",
        builder=functools.partial(sprint, filters=(128, 192, 160), convs_per_block=3),
        recipes={"standard": _long_recipe(width=160, epochs=40)},
    ),
    _card(
        name="sprint_l",
        summary="95.4 % in 1.5 hours on two AMX cores.",
        builder=functools.partial(sprint, filters=(128, 384, 512), convs_per_block=3),
        recipes={"standard": _long_recipe(width=512, epochs=48)},
    ),
)
