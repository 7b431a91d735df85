"""Recipes compared on the validation split: one network, the same epochs, the same seeds.

    python benchmarks/recipes.py resnet20 --epochs 6 --recipes own,sgd [--seeds 0,1,2]
    python benchmarks/recipes.py sprint_s --epochs 16 --recipes cutout,cutmix
    python benchmarks/recipes.py sprint_m --epochs 12 --recipes cutout,selected@16

Each run trains on 45,000 of the training images for all its epochs, keeps its last state, and is
scored on the other 5,000; nobody looks at the test set. A recipe may have epochs of its own after
an @, as one whose epochs take less time. Records lie in results/recipes/, one a run; what is
recorded already is not run again. The first recipe is compared with each of the others, on the
seeds that both have. A GPU has a folder of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from runs import folder_of, parser_of, run_once
from standings import TITLE, val_by_seed

import cifarzoo as zoo
from cifarzoo.models._recipes import long_sprint_recipe
from cifarzoo.models.sprint import LARGE, MEDIUM, MEDIUM_DEEP, SMALL
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.spec import over_epochs

VAL_FRACTION = 0.1
LONG_BATCH = 1000  # of the family's long recipe
SPRINT = {"sprint_s": SMALL, "sprint_m": MEDIUM, "sprint_m3": MEDIUM_DEEP, "sprint_l": LARGE}


def own(card: zoo.ModelCard, epochs: int) -> zoo.Recipe:
    """Give the card's recipe; what begins or ends in it does so at the same part of the run."""
    return over_epochs(card.recipe, epochs)


def sgd(card: zoo.ModelCard, epochs: int) -> zoo.Recipe:
    """Give the field's usual recipe: SGD with momentum, a tenth of the run to warm up, a cosine.

    Source: the settings of github.com/kuangliu/pytorch-cifar, with warm-up and label smoothing.
    """
    del card  # it is the same for all
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


def cutout(card: zoo.ModelCard, epochs: int) -> zoo.Recipe:
    """Give the sprint family's long recipe: a square of each image is grey.

    Raises:
        OptionError: the card is of another family.
    """
    return _long(card, epochs)


def _long(card: zoo.ModelCard, epochs: int, selection: zoo.Selection | None = None) -> zoo.Recipe:
    if card.name not in SPRINT:
        raise zoo.OptionError(
            f"cutout, cutmix and selected are recipes of {', '.join(SPRINT)}, not of {card.name}; "
            "own and sgd are everybody's"
        )
    return long_sprint_recipe(
        width=SPRINT[card.name].filters[-1],
        epochs=epochs,
        batch_size=LONG_BATCH,
        selection=selection,
    )


def cutmix(card: zoo.ModelCard, epochs: int) -> zoo.Recipe:
    """Give the same with a rectangle of another image, in every second batch.

    Raises:
        OptionError: the card is of another family.
    """
    recipe = cutout(card, epochs)
    assert recipe.augmentation is not None
    whole = replace(recipe.augmentation, cutout=0)
    return replace(recipe, augmentation=whole, mixing=zoo.Mixing(kind="cutmix", share=0.5))


def selected(card: zoo.ModelCard, epochs: int) -> zoo.Recipe:
    """Give the one with cutout, for steps with the half of each batch that `sprint_s` chooses.

    Raises:
        OptionError: the card is of another family.
    """
    return _long(card, epochs, zoo.Selection(proxy="sprint_s", share=0.5))


RECIPES: Mapping[str, Callable[[zoo.ModelCard, int], zoo.Recipe]] = {
    "own": own,
    "sgd": sgd,
    "cutout": cutout,
    "cutmix": cutmix,
    "selected": selected,
}


def experiment_of(name: str, recipe: str, epochs: int) -> Experiment:
    """Give a network with one of the recipes.

    Raises:
        OptionError: there is no such model or recipe, the two do not go together, or the epochs are
            none that a recipe can have.
    """
    if recipe not in RECIPES:
        raise zoo.OptionError(f"no recipe is called {recipe!r}; there are {', '.join(RECIPES)}")
    card = zoo.model_card(name)
    tried = replace(
        RECIPES[recipe](card, epochs),
        val_fraction=VAL_FRACTION,
        keep="last",
        early_stopping=None,  # all recipes train to the end
    )
    return Experiment(
        key=f"{name}_{recipe}_{epochs}",
        title=TITLE.format(name=name, recipe=recipe),
        task="",
        card=replace(card, recipe=tried, more_recipes=(), weights=()),
    )


def _asked(text: str, epochs: int) -> tuple[str, int]:
    """Take a recipe's name, and its epochs where it has some of its own, as in "selected@16"."""
    name, at, own_epochs = text.partition("@")
    if not at:
        return name, epochs
    if not own_epochs.isdecimal():
        raise zoo.OptionError(f"--recipes has {text!r}; allowed after the @: a number of epochs")
    return name, int(own_epochs)


def main() -> None:
    """Run what is not recorded yet, print the comparisons."""
    parser = parser_of(__doc__, out="results/recipes", seeds="0,1,2")
    parser.add_argument("model")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--recipes", required=True, help=f"two or more of {', '.join(RECIPES)}")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    names = [name.strip() for name in options.recipes.split(",")]
    if len(set(names)) < max(2, len(names)):
        parser.error(f"--recipes is {options.recipes!r}; allowed: two or more, each once")
    try:
        tried = {
            name: experiment_of(options.model, *_asked(name, options.epochs)) for name in names
        }
        folder = folder_of(options.out, options.device)
    except zoo.CifarZooError as error:
        sys.exit(str(error))
    if len({experiment.key for experiment in tried.values()}) < len(tried):
        parser.error(f"--recipes is {options.recipes!r}, two of which are the same")
    conditions = Conditions(
        folder=folder, device=options.device, scored="val", progress=not options.quiet
    )
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for seed in options.seeds:  # all recipes, then the next seed
        for name, experiment in tried.items():
            found[name] |= val_by_seed([run_once(experiment, seed, conditions)])
            accuracy = f"{found[name][seed]:.2%} of the validation images"
            print(f"{experiment.key}, seed {seed}: {accuracy}", flush=True)
    first, *others = names
    for name in others:
        compared = zoo.compare(found[first], found[name], design="paired")
        print(f"a is {first}, b is {name}: {compared}")


if __name__ == "__main__":
    main()
