"""Compare recipes on the validation split: one network, the same epochs, the same seeds.

    python benchmarks/recipes.py resnet20 --epochs 6 --recipes standard,sgd [--seeds 0,1,2]
    python benchmarks/recipes.py sprint_s --epochs 16 --batch-size 1000 --recipes cutout,cutmix

Each run trains on 45,000 of the training images for all epochs, keeps its last state, and is scored
on the other 5,000. The test set is not used. Each run is recorded in results/recipes/ and not
repeated. The first recipe is compared with each of the others.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser
from dataclasses import replace
from functools import partial
from pathlib import Path

import cifarzoo as zoo
from cifarzoo.errors import InvalidValueError, unknown
from cifarzoo.recipe import scale_epochs

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from _example import Options, accuracy, run_example, run_once

VAL_FRACTION = 0.1
QUICK_IMAGES = 500
OWN = ("sgd", "cutout", "cutmix")  # in addition to the tags of the card's recipes
# As in github.com/kuangliu/pytorch-cifar, with warm-up and label smoothing.
SGD = zoo.Recipe(
    epochs=10,
    batch_size=128,
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=1.0,
    label_smoothing=0.1,
    augmentation=zoo.Augmentation(flip="random", translate=4),
)


def with_batch_size(recipe: zoo.Recipe, size: int) -> zoo.Recipe:
    """Change the batch size: learning rates of SGD scale with it, others with its square root."""

    def scaled(lr: float, optimizer: str) -> float:
        factor = size / recipe.batch_size
        return lr * (factor if optimizer == "sgd" else math.sqrt(factor))

    groups = tuple(
        group
        if group.lr is None
        else replace(group, lr=scaled(group.lr, group.optimizer or recipe.optimizer))
        for group in recipe.groups
    )
    lr = scaled(recipe.lr, recipe.optimizer)
    return replace(recipe, batch_size=size, lr=lr, groups=groups)


def make_recipe(
    card: zoo.ModelCard, name: str, epochs: int, batch_size: int | None = None
) -> zoo.Recipe:
    """Return a recipe by name, for a given number of epochs, with a validation split.

    Args:
        card: of the model.
        name: tag of one of the card's recipes; "sgd", the same for all models; "cutout" or
            "cutmix", the card's first recipe with that augmentation.
        epochs: total; warm-up and groups scale with it.
        batch_size: None for the recipe's own.

    Raises:
        InvalidValueError: there is no such recipe.
    """
    if name not in (*card.recipes, *OWN):
        raise unknown("recipe", name, (*card.recipes, *OWN))
    recipe = SGD if name == "sgd" else card.recipes.get(name, card.recipe)
    recipe = scale_epochs(recipe, epochs)
    if batch_size is not None:
        recipe = with_batch_size(recipe, batch_size)
    strong = replace(recipe.augmentation or zoo.Augmentation(), translate=4)
    if name == "cutout":
        recipe = replace(recipe, augmentation=replace(strong, cutout=12))
    if name == "cutmix":
        mixing = zoo.Mixing(kind="cutmix", share=0.5)
        recipe = replace(recipe, augmentation=strong, mixing=mixing)
    return replace(recipe, val_fraction=VAL_FRACTION, keep="last", early_stopping=None)


def train_and_val(recipe: zoo.Recipe, seed: int, options: Options) -> zoo.Loaders:
    """Load the training and validation images only."""
    if options.data == "shapes":
        n = QUICK_IMAGES if options.quick else 20_000
        whole: zoo.Loaders = zoo.shapes_loaders(recipe.batch_size, n_train=n, n_test=10, seed=seed)
    else:
        whole = zoo.cifar10_loaders(
            recipe.batch_size,
            root=options.root,
            val_fraction=recipe.val_fraction,
            augmentation=recipe.augmentation,
            seed=seed,
        )
    return zoo.Loaders(whole.train, whole.val)


def add_options(parser: ArgumentParser) -> None:
    """Add the choice of the model, its recipes and their settings."""
    parser.add_argument("model")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--recipes", required=True, help=f"tags of the card, {', '.join(OWN)}")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(out=Path("results/recipes"))


def compare_recipes(options: Options) -> None:
    """Run what is not recorded yet, and print the comparisons."""
    own, names = options.own, options.own.recipes.split(",")
    if len(set(names)) < max(2, len(names)):
        raise InvalidValueError(
            f"--recipes is {own.recipes!r}, expected two or more different ones"
        )
    card = zoo.model_card(own.model)
    cards = {
        name: card.with_recipe(make_recipe(card, name, own.epochs, own.batch_size))
        for name in names
    }
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in options.seeds:  # all recipes, then the next seed
        for name, each in cards.items():
            key = f"{own.model}_{name}_{own.epochs}"
            path = options.out / f"{key}-seed{seed}.json"
            load = partial(train_and_val, each.recipe, seed, options)
            run = run_once(each, path, data=load, seed=seed, device=own.device)
            found[name].append(accuracy(run, "val"))
            print(f"{key}, seed {seed}: {found[name][-1]:.2%} validation accuracy", flush=True)
    first, *others = names
    for name in others:
        comparison = zoo.compare(found[first], found[name], design="paired")
        print(f"a is {first}, b is {name}: {comparison}")


if __name__ == "__main__":
    run_example(compare_recipes, __doc__, seeds="0,1,2", add_options=add_options)
