"""What all runs of a report share, and the data and recipe that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cifarzoo.data.loaders import Loaders, first_images, shapes_loaders
from cifarzoo.errors import OptionError, one_of
from cifarzoo.hardware import resolve_device
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import ModeName
from cifarzoo.run import load_data
from cifarzoo.spec import PrecisionName, Recipe, TtaName

__all__ = ["QUICK_IMAGES", "Conditions", "load", "recipe_of"]

QUICK_IMAGES = 300  # to train and validate on; a third as many to test on


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What all runs of a report share.

    Attributes:
        folder: where their files go.
        data: name of the data set.
        root: where CIFAR-10 is; None looks where `cifar10_loaders` does.
        mode: "full", or "quick": one epoch over a few images, to see that everything works.
        weights: what an experiment with a trained backbone starts from: a tag or a file; None
            takes its card's.
        device: "auto", or what `torch.device` takes.
        precision: as `train` takes it.
        tta: test-time augmentation of a second score, as `train` takes it.
        scored: "test", or "val", which leaves the test set alone, as is right where settings are
            chosen. The training and validation images are scored in both cases.
        progress: whether to show progress bars.

    Raises:
        OptionError: `scored` is neither, or `tta` is to score a test set that is left alone.
    """

    folder: Path
    data: str = "cifar10"
    root: Path | None = None
    mode: ModeName = "full"
    weights: str | Path | None = None
    device: str = "auto"
    precision: PrecisionName = "auto"
    tta: TtaName = "none"
    scored: Literal["test", "val"] = "test"
    progress: bool = True

    def __post_init__(self) -> None:
        if self.scored not in ("test", "val"):
            raise one_of("scored", self.scored, ("test", "val"))
        if self.scored == "val" and self.tta != "none":
            raise OptionError(
                f"tta is {self.tta!r}, a second score of the test set, which scored='val' leaves "
                "alone; allowed with it: 'none'"
            )


def recipe_of(experiment: Experiment, mode: ModeName) -> Recipe:
    """Give what an experiment is trained with; a quick run is a single epoch."""
    recipe = experiment.card.recipe
    return recipe if mode == "full" else replace(recipe, epochs=1)


def load(conditions: Conditions, recipe: Recipe, *, seed: int) -> Loaders:
    """Load the data of a run: all of it, or the first few images for a quick one.

    Returns:
        The loaders; `test` is None where the test set is left alone.

    Raises:
        OptionError: no data set has that name, or the validation images alone are to be scored and
            the recipe holds none out; and what the loaders raise.
    """
    loaders = _load(conditions, recipe, seed=seed)
    if conditions.scored == "test":
        return loaders
    if loaders.val is None:
        raise OptionError(
            f"val_fraction is {recipe.val_fraction}; needed is one above 0 where scored='val'"
        )
    return Loaders(loaders.train, loaders.val)


def _load(conditions: Conditions, recipe: Recipe, *, seed: int) -> Loaders:
    quick = conditions.mode == "quick"
    if quick and conditions.data == "shapes":
        return shapes_loaders(
            recipe.batch_size,
            n_train=QUICK_IMAGES,
            n_test=QUICK_IMAGES // 3,
            seed=seed,
            device=resolve_device(conditions.device),
        )
    loaders = load_data(
        conditions.data,
        recipe,
        root=conditions.root,
        seed=seed,
        download=True,
        device=conditions.device,
    )
    if not quick:
        return loaders
    return Loaders(
        first_images(loaders.train, QUICK_IMAGES),
        loaders.val and first_images(loaders.val, QUICK_IMAGES // 10),
        loaders.test and first_images(loaders.test, QUICK_IMAGES // 3),
    )
