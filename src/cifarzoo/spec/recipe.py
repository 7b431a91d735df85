"""How a model is trained: `Recipe`, and the parts that it is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cifarzoo.spec.checks import require, require_name, require_number, require_whole, to_builtin

__all__ = [
    "Augmentation",
    "Averaging",
    "DecayName",
    "Distillation",
    "EarlyStopping",
    "FlipName",
    "KeepName",
    "Mixing",
    "MixingName",
    "NormName",
    "OptimizerName",
    "PaddingName",
    "ParamGroup",
    "Recipe",
    "ScheduleName",
    "Selection",
    "over_epochs",
]

FlipName: TypeAlias = Literal["none", "random", "alternating"]
PaddingName: TypeAlias = Literal["zero", "reflect"]
OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "muon"]
ScheduleName: TypeAlias = Literal["constant", "linear", "cosine", "one_cycle"]
NormName: TypeAlias = Literal["free", "kept"]
DecayName: TypeAlias = Literal["all", "weights"]
MixingName: TypeAlias = Literal["mixup", "cutmix", "either"]
KeepName: TypeAlias = Literal["best", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What a training loader does to an image, anew in every epoch.

    Attributes:
        flip: mirror left to right: never, at random, or "alternating" (at random in the first
            epoch, then every other epoch; arXiv 2404.00498).
        translate: shift by up to this many pixels in each direction ("crop" elsewhere).
        cutout: side in pixels of the square that is set to the mean; 0 turns it off
            (arXiv 1708.04552).
        padding: what a translation fills the border with.
        rand_augment: number of operations of RandAugment (arXiv 1909.13719) before all the others;
            0 turns it off. Every epoch draws 16 sets of operations, and every image one of them.
        magnitude: of those operations, 0 to 30, as torchvision's `RandAugment` takes it.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    flip: FlipName = "none"
    translate: int = 0
    cutout: int = 0
    padding: PaddingName = "zero"
    rand_augment: int = 0
    magnitude: int = 9

    def __post_init__(self) -> None:
        require_name("flip", self.flip, FlipName)
        require_name("padding", self.padding, PaddingName)
        require_whole("translate", self.translate, 0, 16, "0 to 16 pixels")
        require_whole("cutout", self.cutout, 0, 32, "0 to 32 pixels")
        require_whole("rand_augment", self.rand_augment, 0, 8, "0 to 8 operations")
        require_whole("magnitude", self.magnitude, 0, 30, "0 to 30")
        to_builtin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What a training step does to a batch: images are mixed, and their labels in the same way.

    Attributes:
        kind: "mixup" (arXiv 1710.09412) adds each image to another one, "cutmix" (arXiv 1905.04899)
            puts a rectangle of another one into it; "either" tosses a coin for every batch.
        alpha: of the beta distribution that the share of the other image is drawn from, above 0.
        share: of the batches that are mixed, above 0 up to 1.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    kind: MixingName = "cutmix"
    alpha: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        require_name("kind", self.kind, MixingName)
        for name in ("alpha", "share"):
            require_number(name, getattr(self, name), "a number")
        require("alpha", self.alpha, "a positive number", met=0 < self.alpha < math.inf)
        require("share", self.share, "above 0 up to 1", met=0 < self.share <= 1)
        to_builtin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaging:
    """Weights that are averaged over the run; the average is what is validated and kept.

    Attributes:
        decay: what is left of the average at each step, in (0, 1), for an exponential one, and
            less of a young one: (1 + n) / (10 + n) after n steps. None takes the plain mean of all
            steps (arXiv 1803.05407).
        start_epochs: the epoch, from 0, with which averaging begins; before that the average is
            the model itself.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    decay: float | None = 0.999
    start_epochs: float = 0.0

    def __post_init__(self) -> None:
        if self.decay is not None:
            require_number("decay", self.decay, "a number, or None")
            require("decay", self.decay, "between 0 and 1, or None", met=0 < self.decay < 1)
        require_number("start_epochs", self.start_epochs, "a number")
        require(
            "start_epochs", self.start_epochs, "0 or more", met=0 <= self.start_epochs < math.inf
        )
        to_builtin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """A larger network whose answers are learnt beside the labels (arXiv 1503.02531).

    It sees the same augmented, and mixed, images as the network that is trained.

    Attributes:
        teacher: name of a model of the zoo; `train` builds it.
        weights: what it is built with, as `build_model` takes them.
        temperature: that both networks' logits are divided by, above 0.
        share: of the loss that is the distance to the teacher's answers, above 0 up to 1; the rest
            is the labels'.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    teacher: str
    weights: str = "default"
    temperature: float = 4.0
    share: float = 0.9

    def __post_init__(self) -> None:
        for name in ("teacher", "weights"):
            value: object = getattr(self, name)
            is_name = isinstance(value, str) and bool(value)
            require(name, value, "the name of one, as build_model takes it", met=is_name)
        for name in ("temperature", "share"):
            require_number(name, getattr(self, name), "a number")
        high = self.temperature
        require("temperature", high, "a positive number", met=0 < high < math.inf)
        require("share", self.share, "above 0 up to 1", met=0 < self.share <= 1)
        to_builtin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Steps with a part of each batch: the images that a small network beside finds hardest.

    The small network, the proxy, is trained along on chosen images too. An image that is left out
    costs the proxy's passes alone. Losses and accuracies of training are those of chosen images.

    Source: the data filtering of airbench96_faster (github.com/KellerJordan/cifar10-airbench), a
    selective backprop (arXiv 1910.00762) in which another network chooses.

    Attributes:
        proxy: name of a model of the zoo; `train` builds it, and its card's recipe says how it
            is trained, over the epochs of this one.
        share: of each batch that is chosen, above 0 and below 1; at least one image is.
        every: the proxy takes a step with the first of every so many batches, 1 or more.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    proxy: str = "sprint_s"
    share: float = 0.5
    every: int = 4

    def __post_init__(self) -> None:
        value: object = self.proxy
        is_name = isinstance(value, str) and bool(value)
        require("proxy", value, "the name of a model, as build_model takes it", met=is_name)
        require_number("share", self.share, "a number")
        require("share", self.share, "above 0 and below 1", met=0 < self.share < 1)
        require_whole("every", self.every, 1, math.inf, "1 or more batches")
        to_builtin(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stop when, of the last `patience` validation losses, the first is the lowest.

    Attributes:
        patience: number of validation checks that are looked at, at least 2.

    Raises:
        OptionError: patience is under 2.
    """

    patience: int = 4

    def __post_init__(self) -> None:
        require_whole("patience", self.patience, 2, math.inf, "2 or more checks")
        to_builtin(self)


def _require_rates(each: Recipe | ParamGroup) -> None:
    """Check what a recipe and a group of parameters have in common; None in a group is allowed."""
    for name, low, high, allowed in (
        ("lr", 0.0, math.inf, "a positive number"),
        ("momentum", -1.0, 1.0, "0 up to, but not, 1"),
        ("weight_decay", -1.0, math.inf, "0 or more"),
    ):
        value = getattr(each, name)
        if value is None and isinstance(each, ParamGroup):
            continue
        require_number(name, value, "a number")
        inside = low < value < high and (low == 0 or value >= 0)
        require(name, value, allowed, met=inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamGroup:
    """Parameters that a recipe treats apart; None leaves a setting to the recipe.

    Attributes:
        params: pattern of their names with `*` and `?`, such as `*.norm*.bias`, as `fnmatch` reads
            it.
        optimizer: as the recipe's.
        lr: learning rate, above 0; the schedule multiplies it as it does the recipe's.
        momentum: in [0, 1), as the recipe's.
        weight_decay: 0 or more, as the recipe's.
        epochs: they are trained for the first so many epochs, and the schedule runs over those;
            then they stay as they are and cost no gradient. None trains them to the end.
        norm: "kept" scales each tensor back to its norm before every step, for weights whose
            scale does nothing, because a batch norm follows.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    params: str
    optimizer: OptimizerName | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    epochs: float | None = None
    norm: NormName = "free"

    def __post_init__(self) -> None:
        pattern: object = self.params
        is_pattern = isinstance(pattern, str) and bool(pattern)
        require("params", self.params, 'a pattern of names, such as "*.bias"', met=is_pattern)
        if self.optimizer is not None:
            require_name("optimizer", self.optimizer, OptimizerName)
        require_name("norm", self.norm, NormName)
        _require_rates(self)
        if self.epochs is not None:
            require_number("epochs", self.epochs, "a number, or None")
            require("epochs", self.epochs, "a positive number", met=0 < self.epochs < math.inf)
        to_builtin(self)


def _are_groups(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(group, ParamGroup) for group in value)


_PARTS = {
    "early_stopping": EarlyStopping,
    "augmentation": Augmentation,
    "mixing": Mixing,
    "averaging": Averaging,
    "distillation": Distillation,
    "selection": Selection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that is chosen about how a model is trained.

    Where and how often it is done (seed, device, precision, progress) is an argument of `fit`.

    Attributes:
        epochs: passes over the training images, at most.
        batch_size: images per step. `train` builds its loaders with it; `fit` takes batches as
            its loader gives them.
        optimizer: "sgd", "adam", "adamw" or "muon", each torch's own. Muon takes weights with two
            or more dimensions, all but the first as one; the rest needs groups of its own.
        lr: learning rate, above 0; for "one_cycle" the highest one. The default suits SGD; Adam and
            AdamW want about 0.001.
        momentum: of SGD and Muon, in [0, 1); not used by the others.
        nesterov: Nesterov's momentum, likewise.
        weight_decay: L2 penalty (SGD, Adam) or decoupled decay (AdamW, Muon), 0 or more.
        decay: what decays: "all" parameters, or the "weights" alone, which have two or more
            dimensions: no norms, no biases. A group's own weight_decay holds for all it takes.
        groups: parameters that are treated apart; the first one whose pattern fits a name holds.
        schedule: the learning rate over the run, changed at every step: "constant", "linear" or
            "cosine" down to 0, or "one_cycle" as torch's `OneCycleLR` has it.
        warmup_epochs: epochs of a linear rise to `lr` before any schedule but "one_cycle".
        label_smoothing: share of the target spread over all classes, in [0, 1).
        checks_per_epoch: how many times per epoch the validation loss is measured.
        early_stopping: when to stop before `epochs`; None runs them all.
        keep: which state `fit` leaves in the model: the one of the lowest validation loss, or
            the last one.
        val_fraction: share of the training images that is held out for validation.
        augmentation: what `train`'s loader does to the training images.
        mixing: of images and labels within a batch; None mixes nothing.
        averaging: of the weights over the run; None keeps them as the optimizer leaves them.
        distillation: from another network of the zoo; None learns from the labels alone.
        selection: of the images of each batch that are learnt from; None takes them all.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: OptimizerName = "sgd"
    lr: float = 0.05
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay: DecayName = "all"
    groups: tuple[ParamGroup, ...] = ()
    schedule: ScheduleName = "constant"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    checks_per_epoch: int = 1
    early_stopping: EarlyStopping | None = None
    keep: KeepName = "best"
    val_fraction: float = 0.1
    augmentation: Augmentation | None = None
    mixing: Mixing | None = None
    averaging: Averaging | None = None
    distillation: Distillation | None = None
    selection: Selection | None = None

    def __post_init__(self) -> None:
        require_name("optimizer", self.optimizer, OptimizerName)
        require_name("decay", self.decay, DecayName)
        require_name("schedule", self.schedule, ScheduleName)
        require_name("keep", self.keep, KeepName)
        for name in ("epochs", "batch_size", "checks_per_epoch"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        for name, kind in _PARTS.items():
            value: object = getattr(self, name)
            require(
                name, value, f"None, or {kind.__name__}(...)", met=isinstance(value, kind | None)
            )
        for name in ("label_smoothing", "val_fraction", "warmup_epochs"):
            require_number(name, getattr(self, name), "a number")
        _require_rates(self)
        require("groups", self.groups, "a tuple of ParamGroup(...)", met=_are_groups(self.groups))
        require(
            "nesterov",
            self.nesterov,
            "False, or True with a momentum",
            met=any((self.momentum, *(group.momentum for group in self.groups)))
            or not self.nesterov,
        )
        require(
            "label_smoothing",
            self.label_smoothing,
            "0 up to, but not, 1",
            met=0 <= self.label_smoothing < 1,
        )
        require(
            "val_fraction", self.val_fraction, "0 up to, but not, 1", met=0 <= self.val_fraction < 1
        )
        require(
            "warmup_epochs",
            self.warmup_epochs,
            f"0 up to, but not, epochs ({self.epochs})",
            met=0 <= self.warmup_epochs < self.epochs,
        )
        require(
            "warmup_epochs",
            self.warmup_epochs,
            "0 with schedule='one_cycle', which warms up by itself",
            met=not (self.warmup_epochs and self.schedule == "one_cycle"),
        )
        start = 0.0 if self.averaging is None else self.averaging.start_epochs
        require(
            "start_epochs",
            start,
            f"0 up to, but not, epochs ({self.epochs})",
            met=start < self.epochs,
        )
        to_builtin(self)


def over_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Give a recipe over so many epochs; what begins or ends in it does so at the same part.

    Args:
        recipe: whose warm-up, groups and averaging are stretched or shortened.
        epochs: 1 or more.
    """
    part = epochs / recipe.epochs
    groups = [
        group if group.epochs is None else replace(group, epochs=part * group.epochs)
        for group in recipe.groups
    ]
    averaging = recipe.averaging
    if averaging is not None:
        averaging = replace(averaging, start_epochs=part * averaging.start_epochs)
    return replace(
        recipe,
        epochs=epochs,
        groups=tuple(groups),
        warmup_epochs=part * recipe.warmup_epochs,
        averaging=averaging,
    )
