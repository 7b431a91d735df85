"""The nouns: frozen descriptions of models, recipes and weights.

Nothing here computes, and nothing here imports more than the standard library, so a card can be
read without loading torch. Every class is checked at birth; vary one with `dataclasses.replace`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from cifarzoo.display import Display, Shown, settings_rows
from cifarzoo.errors import OptionError, one_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from cifarzoo.models.classifier import ImageClassifier

__all__ = [
    "DEFAULT_TAG",
    "Augmentation",
    "Averaging",
    "DecayName",
    "DeviceName",
    "Distillation",
    "EarlyStopping",
    "FlipName",
    "Mixing",
    "MixingName",
    "ModelCard",
    "NormName",
    "OptimizerName",
    "PaddingName",
    "ParamGroup",
    "PrecisionName",
    "Recipe",
    "ScheduleName",
    "TtaName",
    "Weights",
]

FlipName: TypeAlias = Literal["none", "random", "alternating"]
PaddingName: TypeAlias = Literal["zero", "reflect"]
OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "muon"]
ScheduleName: TypeAlias = Literal["constant", "linear", "cosine", "one_cycle"]
NormName: TypeAlias = Literal["free", "kept"]
DecayName: TypeAlias = Literal["all", "weights"]
MixingName: TypeAlias = Literal["mixup", "cutmix", "either"]
PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]
DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
TtaName: TypeAlias = Literal["none", "flip", "flip_translate"]
KeepName: TypeAlias = Literal["best", "last"]


DEFAULT_TAG = "default"  # of a card's own recipe, and of the weights it gives


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise OptionError(f"{name} is {value!r}; allowed: {allowed}")


def require_whole(name: str, value: object, low: int, high: float, allowed: str) -> None:
    """Refuse what is not a whole number from `low` to `high`.

    Raises:
        OptionError: that says what is allowed.
    """
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    in_range = isinstance(value, Integral) and low <= int(value) <= high
    _require(whole and in_range, name, value, f"whole numbers, {allowed}")


def _require_number(name: str, value: object, allowed: str) -> None:
    _require(isinstance(value, Real) and not isinstance(value, bool), name, value, allowed)


def _to_builtin(each: DataclassInstance) -> None:
    """Replace numbers of other kinds, such as numpy's, which files of a run could not hold."""
    for name in (field.name for field in fields(each)):
        value: object = getattr(each, name)
        if isinstance(value, bool):
            continue
        if isinstance(value, Integral):
            object.__setattr__(each, name, int(value))
        elif isinstance(value, Real):
            object.__setattr__(each, name, float(value))


def _require_name(name: str, value: str, alias: object) -> None:
    if value not in get_args(alias):
        raise one_of(name, value, get_args(alias))


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
        _require_name("flip", self.flip, FlipName)
        _require_name("padding", self.padding, PaddingName)
        require_whole("translate", self.translate, 0, 16, "0 to 16 pixels")
        require_whole("cutout", self.cutout, 0, 32, "0 to 32 pixels")
        require_whole("rand_augment", self.rand_augment, 0, 8, "0 to 8 operations")
        require_whole("magnitude", self.magnitude, 0, 30, "0 to 30")
        _to_builtin(self)


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
        _require_name("kind", self.kind, MixingName)
        for name in ("alpha", "share"):
            _require_number(name, getattr(self, name), "a number")
        _require(0 < self.alpha < math.inf, "alpha", self.alpha, "a positive number")
        _require(0 < self.share <= 1, "share", self.share, "above 0 up to 1")
        _to_builtin(self)


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
            _require_number("decay", self.decay, "a number, or None")
            _require(0 < self.decay < 1, "decay", self.decay, "between 0 and 1, or None")
        _require_number("start_epochs", self.start_epochs, "a number")
        _require(0 <= self.start_epochs < math.inf, "start_epochs", self.start_epochs, "0 or more")
        _to_builtin(self)


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
            _require(is_name, name, value, "the name of one, as build_model takes it")
        for name in ("temperature", "share"):
            _require_number(name, getattr(self, name), "a number")
        high = self.temperature
        _require(0 < high < math.inf, "temperature", high, "a positive number")
        _require(0 < self.share <= 1, "share", self.share, "above 0 up to 1")
        _to_builtin(self)


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
        _to_builtin(self)


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
        _require_number(name, value, "a number")
        inside = low < value < high and (low == 0 or value >= 0)
        _require(inside, name, value, allowed)


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
        _require(is_pattern, "params", self.params, 'a pattern of names, such as "*.bias"')
        if self.optimizer is not None:
            _require_name("optimizer", self.optimizer, OptimizerName)
        _require_name("norm", self.norm, NormName)
        _require_rates(self)
        if self.epochs is not None:
            _require_number("epochs", self.epochs, "a number, or None")
            _require(0 < self.epochs < math.inf, "epochs", self.epochs, "a positive number")
        _to_builtin(self)


def _are_groups(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(group, ParamGroup) for group in value)


_PARTS = {
    "early_stopping": EarlyStopping,
    "augmentation": Augmentation,
    "mixing": Mixing,
    "averaging": Averaging,
    "distillation": Distillation,
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
        lr: learning rate, above 0; for "one_cycle" the highest one.
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

    def __post_init__(self) -> None:
        _require_name("optimizer", self.optimizer, OptimizerName)
        _require_name("decay", self.decay, DecayName)
        _require_name("schedule", self.schedule, ScheduleName)
        _require_name("keep", self.keep, KeepName)
        for name in ("epochs", "batch_size", "checks_per_epoch"):
            require_whole(name, getattr(self, name), 1, math.inf, "1 or more")
        for name, kind in _PARTS.items():
            value: object = getattr(self, name)
            _require(isinstance(value, kind | None), name, value, f"None, or {kind.__name__}(...)")
        for name in ("label_smoothing", "val_fraction", "warmup_epochs"):
            _require_number(name, getattr(self, name), "a number")
        _require_rates(self)
        _require(_are_groups(self.groups), "groups", self.groups, "a tuple of ParamGroup(...)")
        _require(
            any((self.momentum, *(group.momentum for group in self.groups))) or not self.nesterov,
            "nesterov",
            self.nesterov,
            "False, or True with a momentum",
        )
        _require(
            0 <= self.label_smoothing < 1,
            "label_smoothing",
            self.label_smoothing,
            "0 up to, but not, 1",
        )
        _require(
            0 <= self.val_fraction < 1, "val_fraction", self.val_fraction, "0 up to, but not, 1"
        )
        _require(
            0 <= self.warmup_epochs < self.epochs,
            "warmup_epochs",
            self.warmup_epochs,
            f"0 up to, but not, epochs ({self.epochs})",
        )
        _require(
            not (self.warmup_epochs and self.schedule == "one_cycle"),
            "warmup_epochs",
            self.warmup_epochs,
            "0 with schedule='one_cycle', which warms up by itself",
        )
        start = 0.0 if self.averaging is None else self.averaging.start_epochs
        _require(
            start < self.epochs, "start_epochs", start, f"0 up to, but not, epochs ({self.epochs})"
        )
        _to_builtin(self)


def _require_share(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a number from 0 to 1."""
    if value is None and optional:
        return
    allowed = "0 to 1, or None" if optional else "0 to 1"
    _require_number(name, value, allowed)
    _require(isinstance(value, Real) and 0 <= float(value) <= 1, name, value, allowed)


def _require_text(name: str, value: object, pattern: str, allowed: str) -> None:
    found = isinstance(value, str) and re.fullmatch(pattern, value) is not None
    _require(found, name, value, allowed)


def require_tag(tag: object) -> None:
    """Refuse what cannot name weights, for it becomes part of a file's name.

    Raises:
        OptionError: that says what is allowed.
    """
    allowed = "lower-case letters, digits and underscores, none of them first"
    _require_text("tag", tag, r"[a-z0-9][a-z0-9_]*", allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of trained weights and the measurement behind it.

    Of several runs the one of the median accuracy is kept, never the best one.

    Attributes:
        tag: what `build_model(name, weights=tag)` takes; lower case, digits and underscores.
        sha256: hash of the safetensors file, checked at every load.
        size_bytes: length of the file in bytes.
        accuracy: of this very file over the test set, single view, in [0, 1].
        interval: 95 % Wilson interval of that accuracy, in [0, 1].
        mean: of the test accuracy over the seeds, in [0, 1].
        std: standard deviation over the seeds, in [0, 1]; None for one seed.
        seeds: the seeds that were run.
        seed: the one of them whose weights these are, 0 or more.
        recipe: what they were trained with.
        seconds: median time of a run's training, in seconds.
        machine: what they were trained on.
        views: accuracy of this very file with six-view test-time augmentation, in [0, 1]; None
            where it was not measured.

    Raises:
        OptionError: a value is outside what is allowed.
    """

    tag: str
    sha256: str
    size_bytes: int
    accuracy: float
    interval: tuple[float, float]
    mean: float
    std: float | None
    seeds: tuple[int, ...]
    seed: int
    recipe: Recipe
    seconds: float
    machine: str
    views: float | None = None

    def __post_init__(self) -> None:
        require_tag(self.tag)
        _require_text("sha256", self.sha256, r"[0-9a-f]{64}", "64 lower-case hex digits")
        require_whole("size_bytes", self.size_bytes, 1, math.inf, "1 or more")
        for name in ("accuracy", "mean"):
            _require_share(name, getattr(self, name))
        for name in ("std", "views"):
            _require_share(name, getattr(self, name), optional=True)
        _require_interval(self.interval, self.accuracy)
        _require_seeds(self.seeds)
        _require(self.seed in self.seeds, "seed", self.seed, f"one of the seeds {self.seeds}")
        one = len(self.seeds) == 1
        _require((self.std is None) == one, "std", self.std, "None for one seed, else a number")
        recipe: object = self.recipe
        _require(isinstance(recipe, Recipe), "recipe", recipe, "Recipe(...)")
        _require_number("seconds", self.seconds, "0 or more")
        _require(0 <= self.seconds < math.inf, "seconds", self.seconds, "0 or more")
        _require_text("machine", self.machine, r".+", "a description in one line")

    @property
    def measured(self) -> str:
        """Words such as "94.12% (mean 94.05 ± 0.10%, seeds 0, 1, 2)"."""
        own = f"{self.accuracy:.2%}"
        if self.std is None:
            return f"{own} (seed {self.seed})"
        seeds = ", ".join(map(str, self.seeds))
        return f"{own} (mean {100 * self.mean:.2f} ± {self.std:.2%}, seeds {seeds})"


def _require_interval(value: object, accuracy: float) -> None:
    allowed = f"two numbers from 0 to 1 around the accuracy ({accuracy})"
    ends = value if isinstance(value, tuple) else ()
    are_numbers = all(isinstance(end, Real) and not isinstance(end, bool) for end in ends)
    _require(len(ends) == 2 and are_numbers, "interval", value, allowed)
    low, high = ends
    _require(0 <= low <= accuracy <= high <= 1, "interval", value, allowed)


def _require_seeds(value: object) -> None:
    seeds = value if isinstance(value, tuple) else ()
    are_seeds = all(isinstance(seed, int) and seed >= 0 for seed in seeds)
    once = len(set(seeds)) == len(seeds)
    allowed = "at least one seed, 0 or more, each once, in a tuple"
    _require(bool(seeds) and are_seeds and once, "seeds", value, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(Shown):
    """One model of the zoo: how it is built, trained and described.

    Attributes:
        name: what `build_model` takes; lower case, digits and underscores.
        family: the file under `cifarzoo.models` that holds it.
        summary: one line for tables.
        builder: takes the number of classes and returns the model with random weights.
        recipe: how it is trained.
        more_recipes: other ways to train it: pairs of the tag of their weights and the recipe.
        weights: trained weights that come with the package, the default first; may be empty.
        initial_weights: the tag that `train` starts from; None starts from random weights.
        paper: where the architecture comes from.

    Raises:
        OptionError: the name is not an identifier in lower case, or two recipes have one tag.
    """

    name: str
    family: str
    summary: str
    builder: Callable[[int], ImageClassifier]
    recipe: Recipe
    more_recipes: tuple[tuple[str, Recipe], ...] = ()
    weights: tuple[Weights, ...] = ()
    initial_weights: str | None = None
    paper: str

    def __post_init__(self) -> None:
        _require(
            re.fullmatch(r"[a-z][a-z0-9_]*", self.name) is not None,
            "name",
            self.name,
            "lower-case letters, digits and underscores, a letter first",
        )
        tags = [tag for tag, _ in self.more_recipes]
        for tag in tags:
            require_tag(tag)
        allowed = f"each tag once, and not {DEFAULT_TAG!r}, which is for `recipe`"
        once = len({DEFAULT_TAG, *tags}) == 1 + len(tags)
        _require(once, "more_recipes", tags, allowed)

    def recipe_for(self, tag: str) -> Recipe | None:
        """Give the recipe whose weights have a tag, or None where the card has no such recipe."""
        return self.recipe if tag == DEFAULT_TAG else dict(self.more_recipes).get(tag)

    def _display(self) -> Display:
        weights = [(f"weights {each.tag!r}", each.measured) for each in self.weights]
        rows = [
            ("family", self.family),
            ("summary", self.summary),
            ("source", self.paper),
            *(weights or [("weights", "none come with the package")]),
            *((f"recipe: {name}", value) for name, value in settings_rows(self.recipe)),
            *((f"recipe {tag!r}", f"{each.epochs} epochs") for tag, each in self.more_recipes),
        ]
        return Display(title=self.name, header=("what", "value"), rows=tuple(rows))
