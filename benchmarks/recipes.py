"""Recipes compared on the validation split: one network, the same epochs, the same seeds.

    python benchmarks/recipes.py resnet20 --epochs 6 --recipes muon,sgd [--seeds 0,1,2]
    python benchmarks/recipes.py sprint_s --epochs 16 --recipes cutout,cutmix

Each run trains on 45,000 of the training images, keeps its last state, and is scored on the other
5,000; nobody looks at the test set. Records lie in results/recipes/, one a run; what is recorded
already is not run again. The first recipe is compared with each of the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import cifarzoo as zoo
from cifarzoo.models._recipes import long_sprint_recipe, muon_recipe
from cifarzoo.models.sprint import LARGE, MEDIUM, SMALL
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.runner import recorded, run_experiment

VAL_FRACTION = 0.1
SPRINT = {"sprint_s": SMALL, "sprint_m": MEDIUM, "sprint_l": LARGE}


def muon(name: str, epochs: int) -> zoo.Recipe:
    """Give the recipe of the zoo's residual networks."""
    del name
    return muon_recipe(epochs=epochs)


def sgd(name: str, epochs: int) -> zoo.Recipe:
    """Give the field's usual recipe."""
    del name
    return zoo.Recipe(
        epochs=epochs,
        batch_size=128,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="cosine",
        warmup_epochs=epochs / 10,
        label_smoothing=0.1,
        keep="last",
        augmentation=zoo.Augmentation(flip="random", translate=4),
    )


def cutout(name: str, epochs: int) -> zoo.Recipe:
    """Give the sprint family's long recipe: a square of each image is grey."""
    if name not in SPRINT:
        sys.exit(f"cutout and cutmix are recipes of {', '.join(SPRINT)}, not of {name}")
    width = SPRINT[name].filters[-1]
    return long_sprint_recipe(width=width, epochs=epochs, batch_size=1000)


def cutmix(name: str, epochs: int) -> zoo.Recipe:
    """Give the same with a rectangle of another image, in every second batch."""
    recipe = cutout(name, epochs)
    assert recipe.augmentation is not None
    whole = replace(recipe.augmentation, cutout=0)
    return replace(recipe, augmentation=whole, mixing=zoo.Mixing(kind="cutmix", share=0.5))


RECIPES: Mapping[str, Callable[[str, int], zoo.Recipe]] = {
    "muon": muon,
    "sgd": sgd,
    "cutout": cutout,
    "cutmix": cutmix,
}


def record_of(name: str, recipe: str, epochs: int, seed: int, conditions: Conditions) -> Record:
    """Read one run, or make it."""
    tried = replace(RECIPES[recipe](name, epochs), val_fraction=VAL_FRACTION)
    card = replace(zoo.model_card(name), recipe=tried, more_recipes=(), weights=())
    key = f"{name}_{recipe}_{epochs}"
    experiment = Experiment(key=key, title=f"{name}, {recipe}", task="", card=card)
    found = recorded(experiment, seed, conditions) or run_experiment(experiment, seed, conditions)
    if isinstance(found, Failure):
        sys.exit(f"{key}, seed {seed}: {found.error}")
    print(f"{key}, seed {seed}: {accuracy(found):.2%} of the validation images", flush=True)
    return found


def accuracy(record: Record) -> float:
    """Give a run's accuracy on the validation split."""
    assert record.val is not None
    return record.val.accuracy


def main() -> None:
    """Run what is not recorded yet, print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--recipes", required=True, help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("results", "recipes"))
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    recipes = options.recipes.split(",")
    if unknown := [recipe for recipe in recipes if recipe not in RECIPES]:
        parser.error(f"no recipe is called {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    conditions = Conditions(folder=options.out, scored="val", progress=not options.quiet)
    found: dict[str, dict[int, float]] = {recipe: {} for recipe in recipes}
    for seed in map(int, options.seeds.split(",")):  # all recipes, then the next seed
        for recipe in recipes:
            record = record_of(options.model, recipe, options.epochs, seed, conditions)
            found[recipe][seed] = accuracy(record)
    for recipe in recipes[1:]:
        print(f"a is {recipes[0]}, b is {recipe}: {zoo.compare(found[recipes[0]], found[recipe])}")


if __name__ == "__main__":
    main()
