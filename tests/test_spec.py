from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from functools import partial
from typing import TypeAlias, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo import (
    Augmentation,
    Averaging,
    CifarZooError,
    Distillation,
    EarlyStopping,
    ImageClassifier,
    Mixing,
    ModelCard,
    OptionError,
    ParamGroup,
    Recipe,
    Selection,
    Weights,
)
from cifarzoo import spec as nouns

WEIGHTS = Weights(
    tag="v1",
    sha256="0" * 64,
    size_bytes=1,
    accuracy=0.5,
    interval=(0.49, 0.51),
    mean=0.51,
    std=0.02,
    seeds=(0, 1),
    seed=1,
    recipe=Recipe(),
    seconds=60.0,
    machine="A Processor",
    views=0.52,
)


def _no_model(num_classes: int) -> ImageClassifier:
    raise AssertionError(num_classes)


CARD = ModelCard(
    name="a", family="b", summary="c", builder=_no_model, recipe=Recipe(), paper="none"
)

NAN = math.nan
GROUP = ParamGroup(params="*")
BAD: list[tuple[Callable[..., object], str, list[object]]] = [
    (Augmentation, "flip", ["sometimes", "", None, True]),
    (Augmentation, "padding", ["wrap", None]),
    (Augmentation, "translate", [-1, 17, 1.5, True, "2", None]),
    (Augmentation, "cutout", [-1, 33, 0.5, NAN]),
    (Augmentation, "rand_augment", [-1, 9, 1.5, True, None]),
    (Augmentation, "magnitude", [-1, 31, 0.5, None]),
    (Mixing, "kind", ["cut", "both", None]),
    (Mixing, "alpha", [0, -1, NAN, math.inf, "1", None]),
    (Mixing, "share", [0, 1.1, -0.5, NAN, True]),
    (Averaging, "decay", [0, 1, -0.5, 1.5, NAN, "0.9", True]),
    (Averaging, "start_epochs", [-1, NAN, math.inf, None]),
    (partial(Distillation, teacher="a"), "weights", ["", None, 1]),
    (partial(Distillation, teacher="a"), "temperature", [0, -1, NAN, math.inf, "4"]),
    (partial(Distillation, teacher="a"), "share", [0, 1.1, NAN]),
    (Distillation, "teacher", ["", None, 3]),
    (Selection, "proxy", ["", None, 3]),
    (Selection, "share", [0, 1, 1.5, NAN, "half"]),
    (Selection, "every", [0, 1.5, None]),
    (EarlyStopping, "patience", [1, 0, -4, 2.5, "4", None]),
    (Recipe, "epochs", [0, -1, 1.5, NAN, math.inf, "10", True]),
    (Recipe, "batch_size", [0, 0.5, 64.0, None]),
    (Recipe, "checks_per_epoch", [0, 1.5]),
    (Recipe, "optimizer", ["sdg", "SGD", "", None]),
    (Recipe, "schedule", ["cosin", None]),
    (Recipe, "keep", ["first", None]),
    (Recipe, "lr", [0, -0.1, NAN, math.inf]),
    (Recipe, "momentum", [-0.1, 1, NAN]),
    (Recipe, "weight_decay", [-1e-9, NAN, math.inf]),
    (Recipe, "nesterov", [True]),
    (
        Recipe,
        "groups",
        [("*.bias",), (Recipe(),), [GROUP], GROUP, None],
    ),
    (ParamGroup, "params", ["", ("*.bias",), None]),
    (partial(ParamGroup, params="*"), "optimizer", ["sdg", ""]),
    (partial(ParamGroup, params="*"), "norm", ["fixed", None]),
    (partial(ParamGroup, params="*"), "lr", [0, -0.1, NAN, math.inf]),
    (partial(ParamGroup, params="*"), "momentum", [-0.1, 1, NAN]),
    (partial(ParamGroup, params="*"), "weight_decay", [-1e-9, NAN, math.inf]),
    (partial(ParamGroup, params="*"), "epochs", [0, -1, NAN, math.inf]),
    (Recipe, "label_smoothing", [-0.1, 1, NAN]),
    (Recipe, "val_fraction", [-0.1, 1, 1.5, NAN]),
    (Recipe, "warmup_epochs", [-1, 10, 11, NAN]),
    (Recipe, "early_stopping", [4, "yes", {"patience": 4}]),
    (Recipe, "augmentation", ["flip", True, EarlyStopping()]),
    (Recipe, "mixing", ["mixup", 0.5, EarlyStopping()]),
    (Recipe, "averaging", [0.999, True, EarlyStopping()]),
    (Recipe, "distillation", ["sprint_l", True, EarlyStopping()]),
    (Recipe, "selection", ["sprint_s", 0.5, EarlyStopping()]),
    (Recipe, "decay", ["norms", "", None]),
    (partial(replace, WEIGHTS), "tag", ["", "../x", "a/b", "A", "_a", "a-b", "a.b", "a\n", None]),
    (partial(replace, WEIGHTS), "sha256", ["", "0" * 63, "G" * 64, None]),
    (partial(replace, WEIGHTS), "size_bytes", [0, -1, 1.5, True]),
    (partial(replace, WEIGHTS), "accuracy", [-0.1, 1.1, 81.2, NAN, None, True]),
    (partial(replace, WEIGHTS), "mean", [-0.1, 1.1, NAN, "0.5"]),
    (partial(replace, WEIGHTS), "std", [-0.1, 1.1, NAN, None]),
    (partial(replace, WEIGHTS), "views", [-0.1, 1.1, NAN, "0.5"]),
    (
        partial(replace, WEIGHTS),
        "interval",
        [(), (0.4,), (0.6, 0.7), (0.4, 1.1), (NAN, 0.6), ("a", "b"), [0.4, 0.6], None],
    ),
    (partial(replace, WEIGHTS), "seeds", [(), (0, 0, 1), (-1, 1), (1.5, 1), [0, 1], 1]),
    (partial(replace, WEIGHTS), "seed", [2, -1, None]),
    (partial(replace, WEIGHTS), "recipe", [None, {"epochs": 3}]),
    (partial(replace, WEIGHTS), "seconds", [-1, NAN, math.inf, None]),
    (partial(replace, WEIGHTS), "machine", ["", "two\nlines", None]),
    (lambda **changes: replace(CARD, **changes), "name", ["", "A", "1a", "a-b", "a b", "a\n"]),
]


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [(build, name, value) for build, name, values in BAD for value in values],
)
def test_value_outside_what_is_allowed_is_refused_at_birth(
    build: Callable[..., object], name: str, value: object
) -> None:
    with pytest.raises(OptionError) as caught:
        build(**{name: value})
    message = str(caught.value)
    assert name in message
    assert repr(value) in message
    assert "llowed" in message
    assert isinstance(caught.value, (CifarZooError, ValueError))


def test_misspelt_name_gets_the_closest_one() -> None:
    with pytest.raises(OptionError, match="did you mean 'cosine'"):
        Recipe(schedule="cosin")  # type: ignore[arg-type]


def test_one_cycle_does_not_take_a_second_warm_up() -> None:
    with pytest.raises(OptionError, match="warms up by itself"):
        Recipe(schedule="one_cycle", warmup_epochs=1)


def test_averaging_begins_before_the_end() -> None:
    with pytest.raises(OptionError, match=r"start_epochs is 3.*epochs \(3\)"):
        Recipe(epochs=3, averaging=Averaging(start_epochs=3))


def test_recipes_by_their_tags() -> None:
    long = Recipe(epochs=99)
    card = replace(CARD, more_recipes=(("long", long),))
    assert card.recipe_tags == ("default", "long")
    assert [card.recipe_for(tag) for tag in card.recipe_tags] == [card.recipe, long]
    with pytest.raises(OptionError, match=f"unknown recipe of {card.name} 'lnog'; did you mean"):
        card.recipe_for("lnog")
    for tags in (("long", "long"), ("default",)):
        with pytest.raises(OptionError, match=r"more_recipes is .* allowed: each tag once"):
            replace(CARD, more_recipes=tuple((tag, long) for tag in tags))
    with pytest.raises(OptionError, match=r"tag is '\.\./x'"):
        replace(CARD, more_recipes=(("../x", long),))


def test_numpy_integers_are_integers() -> None:
    assert Recipe(epochs=np.int64(3)).epochs == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (Augmentation, {"translate": 0, "cutout": 0}),
        (Augmentation, {"translate": 16, "cutout": 32, "flip": "alternating"}),
        (EarlyStopping, {"patience": 2}),
        (Recipe, {"epochs": 1, "warmup_epochs": 0.999, "batch_size": 1}),
        (Recipe, {"val_fraction": 0.0, "momentum": 0.999, "label_smoothing": 0.999}),
    ],
)
def test_ends_of_the_ranges_are_allowed(
    build: Callable[..., object], changes: dict[str, object]
) -> None:
    made = build(**changes)
    assert all(getattr(made, name) == value for name, value in changes.items())


Noun: TypeAlias = Augmentation | EarlyStopping | Recipe | Weights | ModelCard


@pytest.mark.parametrize("value", [Augmentation(), EarlyStopping(), Recipe(), WEIGHTS, CARD])
def test_nouns_are_frozen_slotted_and_keyword_only(value: Noun) -> None:
    first = dataclasses.fields(value)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, first, None)
    assert not hasattr(value, "__dict__")
    assert all(field.kw_only for field in dataclasses.fields(value))
    assert hash(value) == hash(replace(value))
    assert replace(value) == value


@pytest.mark.parametrize("value", [Augmentation(), EarlyStopping(), Recipe(), WEIGHTS])
def test_nouns_can_be_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_recipe_is_checked_again_when_it_is_varied() -> None:
    with pytest.raises(OptionError, match="epochs"):
        replace(Recipe(), epochs=0)


@given(
    optimizer=st.sampled_from(get_args(nouns.OptimizerName)),
    schedule=st.sampled_from(get_args(nouns.ScheduleName)),
    epochs=st.integers(1, 500),
    lr=st.floats(1e-6, 10),
    momentum=st.floats(0, 0.999),
    stopping=st.none() | st.builds(EarlyStopping, patience=st.integers(2, 50)),
    augmentation=st.none()
    | st.builds(Augmentation, translate=st.integers(0, 16), cutout=st.integers(0, 32)),
)
def test_every_allowed_recipe_survives_a_round_trip_through_its_repr(
    optimizer: nouns.OptimizerName,
    schedule: nouns.ScheduleName,
    epochs: int,
    lr: float,
    momentum: float,
    stopping: EarlyStopping | None,
    augmentation: Augmentation | None,
) -> None:
    recipe = Recipe(
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        early_stopping=stopping,
        augmentation=augmentation,
    )
    names = {"Recipe": Recipe, "EarlyStopping": EarlyStopping, "Augmentation": Augmentation}
    assert eval(repr(recipe), names) == recipe


def test_defaults_are_torchs_and_the_reports() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.keep) == (10, 64, 0.05, "best")
    assert recipe.momentum == torch.optim.SGD([torch.zeros(1)], lr=1).defaults["momentum"]
    assert recipe.early_stopping is None
    assert EarlyStopping().patience == 4


def test_every_name_of_the_room_is_public() -> None:
    assert set(nouns.__all__) >= {"Augmentation", "EarlyStopping", "ModelCard", "Recipe", "Weights"}
    assert all(hasattr(nouns, name) for name in nouns.__all__)


def test_numbers_of_numpy_become_pythons() -> None:
    recipe = Recipe(
        epochs=np.int64(3),  # type: ignore[arg-type]
        lr=np.float32(0.5),  # type: ignore[arg-type]
        momentum=np.float64(0.25),
        augmentation=Augmentation(translate=np.int8(2)),  # type: ignore[arg-type]
        groups=(ParamGroup(params="*", weight_decay=np.float64(0.5)),),
    )
    assert recipe.augmentation is not None
    found = [recipe.epochs, recipe.lr, recipe.momentum, recipe.augmentation.translate]
    assert [*found, recipe.groups[0].weight_decay] == [3, 0.5, 0.25, 2, 0.5]
    assert [type(value) for value in found] == [int, float, float, int]
    assert type(recipe.groups[0].weight_decay) is float
    assert Recipe().nesterov is False


def test_momentum_of_a_group_is_enough_for_nesterov() -> None:
    groups = (ParamGroup(params="*", momentum=0.9),)
    assert Recipe(nesterov=True, groups=groups).groups == groups


def test_one_seed_has_no_deviation() -> None:
    one = replace(WEIGHTS, seeds=(1,), std=None)
    assert one.measured == "50.00% (seed 1)"
    with pytest.raises(OptionError, match=r"std is 0.1; allowed: None for one seed"):
        replace(one, std=0.1)


def test_display_says_what_weights_reach() -> None:
    rows = replace(CARD, weights=(WEIGHTS,))._display().rows
    assert ("weights 'v1'", "50.00% (mean 51.00 ± 2.00%, seeds 0, 1)") in rows
    assert ("weights", "none come with the package") in CARD._display().rows
