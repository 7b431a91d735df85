r"""Compare recipes on the validation split: one network, the same seeds.

    python benchmarks/recipes.py resnet20 --variant standard epochs=6 --variant sgd epochs=6
    python benchmarks/recipes.py sprint_s --variant standard --variant smaller epochs=5 \
        image_sizes=24,24,28,32,32 lr=x1.2 augmentation.translate=3

A variant is a name, followed by changes of its recipe: fields of `Recipe`, with dots for fields of
its parts. The name "sgd" stands for the same recipe for all models, the tag of one of the card's
recipes for that recipe, any other name for the card's first. "batch_size=N" scales the learning
rates, "lr=x1.2" multiplies all of them, and "model.NAME=VALUE" changes an argument of the builder.

Each run trains on 45,000 of the training images for all epochs, keeps its last state, and is scored
on the other 5,000. The test set is not used. Each run is recorded in results/recipes/ and not
repeated. If there are several variants, the first is compared with each of the others.
"""

from __future__ import annotations

import ast
import functools
import math
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

import cifarzoo as zoo
from cifarzoo.errors import InvalidValueError, unknown
from cifarzoo.recipe import scale_epochs

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from _example import Options, accuracy, run_example, run_once

VAL_FRACTION = 0.1
QUICK_IMAGES = 500
PARTS = {"augmentation": zoo.Augmentation, "averaging": zoo.Averaging, "mixing": zoo.Mixing}
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


@dataclass(frozen=True)
class Variant:
    """A recipe and a network to compare.

    Attributes:
        name: part of the record's file name.
        card: the model's card, with the changed recipe and builder.
        note: the changes of the builder, which the recipe does not record.
    """

    name: str
    card: zoo.ModelCard
    note: str


def make_variant(card: zoo.ModelCard, name: str, changes: Sequence[str]) -> Variant:
    """Return a recipe by name, with a validation split and with changes such as "epochs=5".

    Raises:
        InvalidValueError: a change is not accepted.
    """
    if not changes and name not in (*card.recipes, "sgd"):
        raise unknown("recipe", name, (*card.recipes, "sgd"))
    recipe = SGD if name == "sgd" else card.recipes.get(name, card.recipe)
    arguments, notes = {}, []
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InvalidValueError(f"variant {name}: {change!r}, expected FIELD=VALUE")
        if key.startswith("model."):
            arguments[key.removeprefix("model.")] = getattr(nn, text, None) or _parse(text)
            notes.append(change)
        else:
            recipe = with_change(recipe, key, text)
    recipe = replace(recipe, val_fraction=VAL_FRACTION, keep="last", early_stopping=None)
    builder = functools.partial(card.builder, **arguments)
    changed = replace(card.with_recipe(recipe), builder=builder)
    return Variant(name, changed, ", ".join(notes))


def with_change(recipe: zoo.Recipe, key: str, text: str) -> zoo.Recipe:
    """Return a recipe with another value of a field."""
    name, _, part = key.partition(".")
    if key == "lr" and text.startswith("x"):
        return with_rates(recipe, lambda _: float(text[1:]))
    value = _parse(text)
    if key == "epochs":
        return scale_epochs(recipe, value)
    if key == "batch_size":
        return with_batch_size(recipe, value)
    if part:
        value = replace(getattr(recipe, name) or PARTS[name](), **{part: value})
    return replace(recipe, **{name: value})


def with_batch_size(recipe: zoo.Recipe, size: int) -> zoo.Recipe:
    """Change the batch size: learning rates of SGD scale with it, others with its square root."""
    ratio = size / recipe.batch_size
    scaled = with_rates(recipe, lambda name: ratio if name == "sgd" else math.sqrt(ratio))
    return replace(scaled, batch_size=size)


def with_rates(recipe: zoo.Recipe, factor: Callable[[str], float]) -> zoo.Recipe:
    """Multiply the learning rates by a function of the optimizer."""
    groups = tuple(
        group
        if group.lr is None
        else replace(group, lr=group.lr * factor(group.optimizer or recipe.optimizer))
        for group in recipe.groups
    )
    return replace(recipe, lr=recipe.lr * factor(recipe.optimizer), groups=groups)


def _parse(text: str) -> Any:  # noqa: ANN401 - what the field accepts
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def train_and_val(recipe: zoo.Recipe, seed: int, options: Options) -> zoo.Loaders:
    """Load the training and validation images only."""
    if options.data == "shapes":
        n = QUICK_IMAGES if options.quick else 20_000
        whole: zoo.Loaders = zoo.shapes_loaders(recipe=recipe, n_train=n, n_test=10, seed=seed)
    else:
        whole = zoo.cifar10_loaders(recipe=recipe, root=options.root, seed=seed)
    return zoo.Loaders(whole.train, whole.val)


def add_options(parser: ArgumentParser) -> None:
    """Add the choice of the model and its variants."""
    parser.add_argument("model")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FIELD=VALUE"),
        help="a recipe and its changes; repeat it for each variant",
    )
    parser.add_argument("--device", default="auto")
    parser.set_defaults(out=Path("results/recipes"))


def compare_recipes(options: Options) -> None:
    """Run what is not recorded yet, and print the comparisons."""
    own = options.own
    names = [name for name, *_ in own.variant]
    if len(set(names)) < len(names):
        raise InvalidValueError(f"variants are {names}: expected different names")
    card = zoo.model_card(own.model)
    variants = [make_variant(card, name, changes) for name, *changes in own.variant]
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in options.seeds:  # all variants, then the next seed
        for variant in variants:
            key = f"{own.model}_{variant.name}"
            path = options.out / f"{key}-seed{seed}.json"
            load = partial(train_and_val, variant.card.recipe, seed, options)
            run = run_once(
                variant.card, path, data=load, seed=seed, device=own.device, note=variant.note
            )
            found[variant.name].append(accuracy(run, "val"))
            print(
                f"{key}, seed {seed}: {found[variant.name][-1]:.2%} validation accuracy", flush=True
            )
    first, *others = names
    for name in others:
        comparison = zoo.compare(found[first], found[name], design="paired")
        print(f"a is {first}, b is {name}: {comparison}")


if __name__ == "__main__":
    run_example(compare_recipes, __doc__, seeds="0,1,2", add_options=add_options)
