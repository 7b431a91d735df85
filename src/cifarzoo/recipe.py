"""Training settings: `Recipe` and its parts."""

from __future__ import annotations

import fractions
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StrictBool
from typing_extensions import override

from cifarzoo.display import HasTable, Table, settings_rows
from cifarzoo.errors import InvalidValueError
from cifarzoo.validation import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitInterval,
    settings,
)

__all__ = [
    "Augmentation",
    "Averaging",
    "Compile",
    "Distillation",
    "EarlyStopping",
    "Mixing",
    "OptimizerName",
    "PaddingName",
    "ParamGroup",
    "PrecisionName",
    "Recipe",
    "ScheduleName",
    "TtaName",
    "scale_epochs",
]

Compile: TypeAlias = bool | Literal["auto"]
OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "muon"]
PaddingName: TypeAlias = Literal["zero", "reflect"]
ScheduleName: TypeAlias = Literal["constant", "linear", "cosine", "one_cycle"]
PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]
TtaName: TypeAlias = Literal["none", "flip", "flip_translate", "adaptive"]

_NonEmpty = Annotated[str, Field(min_length=1)]
_Weight = Annotated[UnitInterval, Field(gt=0)]


@settings
class Augmentation:
    """Augmentation of training images, drawn for each image in each epoch.

    Attributes:
        flip: horizontal flips: "none", "random", or "alternating" (random in the first epoch, then
            every other epoch; arXiv 2404.00498).
        translate: largest shift in pixels in each direction, 0 to 16.
        cutout: side in pixels of the square that is filled with the mean colour, 0 to 32; 0
            disables it (arXiv 1708.04552).
        padding: how translation and rotation fill the border: "zero" or "reflect".
        rand_augment: number of RandAugment operations (arXiv 1909.13719) applied first, 0 to 8.
        magnitude: strength of these operations, 0 to 30, as in torchvision's `RandAugment`.
        trivial_augment: whether to apply one operation of random strength first, as torchvision's
            `TrivialAugmentWide` (arXiv 2103.10158); not together with `rand_augment`.
        brightness: largest relative change of the brightness, 0 to 1, as in torchvision's
            `ColorJitter`.
        contrast: largest relative change of the contrast, 0 to 1, as there.
        saturation: largest relative change of the saturation, 0 to 1, as there.
        hue: largest rotation of the hues, 0 to 0.5 turns, in the YIQ colour space (`ColorJitter`
            rotates them in HSV).
        rotation: largest angle of the rotation in degrees, 0 to 180; interpolated bilinearly.
        sharpness: largest relative change of the sharpness, 0 to 1, as in torchvision's
            `adjust_sharpness`.
        erase: probability of filling a random rectangle with the mean colour, 0 to 1, as in
            torchvision's `RandomErasing` (arXiv 1708.04896): 2 to 33 % of the area, aspect ratio
            0.3 to 3.3.
    """

    flip: Literal["none", "random", "alternating"] = "none"
    translate: Annotated[NonNegativeInt, Field(le=16)] = 0
    cutout: Annotated[NonNegativeInt, Field(le=32)] = 0
    padding: PaddingName = "zero"
    rand_augment: Annotated[NonNegativeInt, Field(le=8)] = 0
    magnitude: Annotated[NonNegativeInt, Field(le=30)] = 9
    trivial_augment: StrictBool = False
    brightness: UnitInterval = 0.0
    contrast: UnitInterval = 0.0
    saturation: UnitInterval = 0.0
    hue: Annotated[NonNegativeFloat, Field(le=0.5)] = 0.0
    rotation: Annotated[NonNegativeFloat, Field(le=180)] = 0.0
    sharpness: UnitInterval = 0.0
    erase: UnitInterval = 0.0

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the fields that have no effect, since what they modify is disabled."""
        magnitude = () if self.rand_augment else ("magnitude",)
        padding = () if self.translate or self.rotation else ("padding",)
        return magnitude + padding

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.rand_augment and self.trivial_augment:
            raise InvalidValueError(
                f"rand_augment is {self.rand_augment}: expected 0 with trivial_augment"
            )


@settings
class Mixing:
    """Mixing of the images, and of their labels, within a training batch.

    Attributes:
        kind: "mixup" (arXiv 1710.09412), "cutmix" (arXiv 1905.04899), or "either" to choose one of
            the two at random for each batch.
        alpha: parameter of the beta distribution of the mixing weight, above 0.
        share: fraction of the batches that are mixed, in (0, 1].
        ramp_epochs: epochs, from the first, over which this fraction grows linearly from 0.
    """

    kind: Literal["mixup", "cutmix", "either"] = "cutmix"
    alpha: PositiveFloat = 1.0
    share: _Weight = 1.0
    ramp_epochs: NonNegativeFloat = 0.0

    def share_at(self, epoch: float) -> float:
        """Return the fraction of mixed batches after a number of epochs."""
        return self.share * min(1.0, epoch / self.ramp_epochs) if self.ramp_epochs else self.share


@settings
class Averaging:
    """Averaging of the weights over the run; the average is validated and kept.

    The running statistics of batch norms are averaged in the same way.

    Attributes:
        decay: decay of an exponential moving average, in (0, 1), limited to (1 + n) / (10 + n)
            after n steps. None selects the plain mean over all steps (arXiv 1803.05407).
        start_epochs: epoch at which averaging begins, counted from 0.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.999
    start_epochs: NonNegativeFloat = 0.0


@settings
class Distillation:
    """Knowledge distillation from another model of the zoo (arXiv 1503.02531).

    The teacher sees the same augmented and mixed images as the student, always at their whole size
    (see `Recipe.image_sizes`).

    Attributes:
        teacher: name of the model; `train` builds it.
        weights: weights of the teacher, as in `build_model`.
        temperature: divisor of both networks' logits, above 0.
        share: weight of the distillation loss, in (0, 1]; the loss on the labels has the rest.
        views: number of epochs after which the same augmented and mixed images come again, so that
            the teacher computes each batch once; None draws new images in every epoch.
    """

    teacher: _NonEmpty
    weights: _NonEmpty = "default"
    temperature: PositiveFloat = 4.0
    share: _Weight = 0.9
    views: PositiveInt | None = None


@settings
class EarlyStopping:
    """Stop when the first of the last `patience` validation losses is the lowest of them.

    Attributes:
        patience: number of validation checks, at least 2.
    """

    patience: Annotated[PositiveInt, Field(ge=2)] = 4


@settings
class ParamGroup:
    """Parameters that override settings of the recipe; None inherits a setting.

    Attributes:
        params: pattern of parameter names with `*` and `?`, such as "*.norm*.bias" (see `fnmatch`).
        optimizer: optimizer, as in `Recipe`.
        lr: learning rate, above 0; scaled by the schedule.
        momentum: momentum, in [0, 1).
        weight_decay: weight decay, 0 or more.
        epochs: number of epochs, above 0, over which the schedule of these parameters runs; they
            are frozen afterwards. None trains them to the end.
        fix_norm: whether to rescale each tensor to its initial norm before every step, for weights
            whose scale has no effect because a batch norm follows.
    """

    params: _NonEmpty
    optimizer: OptimizerName | None = None
    lr: PositiveFloat | None = None
    momentum: Fraction | None = None
    weight_decay: NonNegativeFloat | None = None
    epochs: PositiveFloat | None = None
    fix_norm: StrictBool = False


@settings
class Recipe(HasTable):
    """All training settings that change the result.

    The seed, and everything that does not change the result (device, precision, progress), are
    arguments of `fit`.

    Attributes:
        epochs: maximum number of passes over the training images.
        batch_size: images per step; used by `train` and the loaders, not by `fit`.
        optimizer: "sgd", "adam", "adamw" or "muon", as in `torch.optim`. Muon supports weights with
            two or more dimensions; other parameters need a group with another optimizer.
        lr: learning rate, above 0; the peak for "one_cycle". The default suits SGD; Adam and AdamW
            need about 0.001.
        momentum: momentum of SGD and Muon, in [0, 1).
        nesterov: whether to use Nesterov momentum; requires a momentum above 0.
        weight_decay: L2 penalty (SGD, Adam) or decoupled weight decay (AdamW, Muon), 0 or more.
        decay_norm_and_bias: whether to decay parameters with fewer than two dimensions as well. A
            group's own `weight_decay` applies to all its parameters.
        groups: parameters with their own settings; the first pattern that matches a name wins.
        schedule: learning-rate schedule, updated at every step: "constant", "linear" or "cosine"
            down to 0, or "one_cycle" as in torch's `OneCycleLR`.
        warmup_epochs: epochs of linear warm-up before the schedule; 0 with "one_cycle".
        label_smoothing: label smoothing, in [0, 1).
        clip_grad_norm: largest norm of the gradient of all parameters; a longer one is scaled down
            before each step. None does not clip.
        accumulate: number of parts into which each batch is divided to save memory; their gradients
            are added up before the step. Batch norms use the statistics of each part.
        checks_per_epoch: validations per epoch, 1 or more.
        early_stopping: early stopping; None runs all epochs.
        keep: state that `fit` leaves in the model: "best" (lowest validation loss) or "last".
        val_fraction: fraction of the training images held out for validation, in [0, 1).
        augmentation: augmentation of the training images, or None.
        image_sizes: sides in pixels to which augmented batches are resized, bilinearly, each for an
            equal share of the epochs: (24, 28, 32) begins with smaller images, which take less
            time. Empty keeps the size. Teachers, checks and scores use whole images.
        mixing: mixing of images and labels within a batch, or None.
        averaging: averaging of the weights, or None.
        distillation: distillation from another model of the zoo, or None.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    optimizer: OptimizerName = "sgd"
    lr: PositiveFloat = 0.05
    momentum: Fraction = 0.0
    nesterov: StrictBool = False
    weight_decay: NonNegativeFloat = 0.0
    decay_norm_and_bias: StrictBool = True
    groups: tuple[ParamGroup, ...] = ()
    schedule: ScheduleName = "constant"
    warmup_epochs: NonNegativeFloat = 0.0
    label_smoothing: Fraction = 0.0
    clip_grad_norm: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    checks_per_epoch: PositiveInt = 1
    early_stopping: EarlyStopping | None = None
    keep: Literal["best", "last"] = "best"
    val_fraction: Fraction = 0.1
    augmentation: Augmentation | None = None
    image_sizes: tuple[PositiveInt, ...] = ()
    mixing: Mixing | None = None
    averaging: Averaging | None = None
    distillation: Distillation | None = None

    def image_size(self, epoch: int) -> int | None:
        """Return the side of the training images in an epoch from 0; None for their own."""
        n = len(self.image_sizes)
        return self.image_sizes[((epoch + 1) * n - 1) // self.epochs] if n else None

    @override
    def table(self) -> Table:
        rows = tuple(settings_rows(self))
        return Table(title="Recipe", header=("setting", "value"), rows=rows)

    def __post_init__(self) -> None:
        """Check the fields that depend on each other."""
        if self.nesterov and not any((self.momentum, *(group.momentum for group in self.groups))):
            raise InvalidValueError("nesterov is True: expected a momentum above 0")
        if self.warmup_epochs and self.schedule == "one_cycle":
            raise InvalidValueError(
                f"warmup_epochs is {self.warmup_epochs}: expected 0, since 'one_cycle' includes a "
                "warm-up"
            )
        if self.accumulate > self.batch_size:
            raise InvalidValueError(
                f"accumulate is {self.accumulate}: expected at most the batch size, "
                f"{self.batch_size}"
            )
        start = 0.0 if self.averaging is None else self.averaging.start_epochs
        ramp = 0.0 if self.mixing is None else self.mixing.ramp_epochs
        delays = {"warmup_epochs": self.warmup_epochs, "start_epochs": start, "ramp_epochs": ramp}
        for name, value in delays.items():
            if value >= self.epochs:
                raise InvalidValueError(
                    f"{name} is {value}: expected less than {self.epochs} epochs"
                )
        if ramp and self.distillation is not None and self.distillation.views is not None:
            raise InvalidValueError(
                f"ramp_epochs is {ramp}: expected 0 with distillation.views, which repeats the "
                "mixed images"
            )


def scale_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return a recipe with another number of epochs.

    Warm-up, growth of mixing, start of averaging and epochs of groups are scaled in proportion.

    Args:
        recipe: recipe to scale.
        epochs: new number of epochs, 1 or more.
    """

    def scaled(value: float) -> float:
        # As fractions, so that a third of the epochs remains exactly a third.
        return float(fractions.Fraction(value).limit_denominator(1000) * epochs / recipe.epochs)

    groups = tuple(
        group if group.epochs is None else replace(group, epochs=scaled(group.epochs))
        for group in recipe.groups
    )
    mixing, averaging = recipe.mixing, recipe.averaging
    if mixing is not None:
        mixing = replace(mixing, ramp_epochs=scaled(mixing.ramp_epochs))
    if averaging is not None:
        averaging = replace(averaging, start_epochs=scaled(averaging.start_epochs))
    return replace(
        recipe,
        epochs=epochs,
        groups=groups,
        warmup_epochs=scaled(recipe.warmup_epochs),
        mixing=mixing,
        averaging=averaging,
    )
