"""Recipes are validated, immutable, and compatible with JSON, pickle and NumPy."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cifarzoo as zoo
from cifarzoo.recipe import scale_epochs
from cifarzoo.validation import PositiveInt, expand_path, from_json, to_json, validate

RECIPE = zoo.Recipe(
    epochs=20,
    optimizer="muon",
    momentum=0.9,
    nesterov=True,
    groups=(zoo.ParamGroup(params="*bias", optimizer="sgd", epochs=5),),
    warmup_epochs=2,
    early_stopping=zoo.EarlyStopping(),
    augmentation=zoo.Augmentation(flip="alternating", translate=4),
    image_sizes=(24, 32),
    mixing=zoo.Mixing(kind="either", share=0.5, ramp_epochs=5),
    averaging=zoo.Averaging(start_epochs=10),
    distillation=zoo.Distillation(teacher="sprint_m"),
)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"lr": -1}, ValueError, ["lr", "-1", "greater than 0"]),
        ({"lr": float("nan")}, ValueError, ["lr", "nan"]),
        ({"lr": "0.1"}, TypeError, ["lr", "'0.1'", "number"]),
        ({"lr": None}, TypeError, ["lr", "None"]),
        ({"epochs": 0}, ValueError, ["epochs", "0"]),
        ({"epochs": 1.5}, TypeError, ["epochs", "1.5", "integer"]),
        ({"epochs": True}, TypeError, ["epochs", "True"]),
        ({"momentum": 1.0}, ValueError, ["momentum", "less than 1"]),
        ({"optimizer": "adma"}, ValueError, ["'adma'", "did you mean 'adam'"]),
        ({"schedule": 3}, ValueError, ["schedule", "3"]),
        ({"groups": ({"lr": 1.0},)}, TypeError, ["groups", "params"]),
        ({"groups": (zoo.Mixing(),)}, TypeError, ["groups", "ParamGroup"]),
        ({"mixing": "mixup"}, TypeError, ["mixing", "'mixup'"]),
        ({"image_sizes": (24, 0)}, ValueError, ["image_sizes", "0"]),
        ({"image_sizes": 24}, TypeError, ["image_sizes", "24"]),
        ({"nesterov": 1}, TypeError, ["nesterov", "1"]),
        ({"epoch": 3}, TypeError, ["'epoch'", "did you mean 'epochs'"]),
        ({"nesterov": True, "momentum": 0.0}, ValueError, ["momentum"]),
        ({"warmup_epochs": 1, "schedule": "one_cycle"}, ValueError, ["warmup_epochs"]),
        ({"warmup_epochs": 10}, ValueError, ["warmup_epochs", "10"]),
        ({"averaging": zoo.Averaging(start_epochs=10)}, ValueError, ["start_epochs"]),
        ({"mixing": zoo.Mixing(ramp_epochs=10)}, ValueError, ["ramp_epochs", "10"]),
        (
            {
                "mixing": zoo.Mixing(ramp_epochs=1),
                "distillation": zoo.Distillation(teacher="x", views=2),
            },
            ValueError,
            ["ramp_epochs", "1.0", "views"],
        ),
    ],
)
def test_error_names_the_field_its_value_and_what_is_accepted(
    changes: dict[str, Any], kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        zoo.Recipe(**changes)
    assert isinstance(caught.value, zoo.CifarZooError)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (zoo.Augmentation, {"translate": 17}),
        (zoo.Augmentation, {"flip": "yes"}),
        (zoo.Augmentation, {"cutout": -1}),
        (zoo.Augmentation, {"contrast": 1.1}),
        (zoo.Augmentation, {"hue": 0.6}),
        (zoo.Augmentation, {"brightness": True}),
        (zoo.Augmentation, {"rotation": 181}),
        (zoo.Augmentation, {"sharpness": -0.1}),
        (zoo.Augmentation, {"erase": 1.1}),
        (zoo.Augmentation, {"trivial_augment": 1}),
        (zoo.Augmentation, {"trivial_augment": True, "rand_augment": 2}),
        (zoo.Mixing, {"ramp_epochs": -1}),
        (zoo.Mixing, {"alpha": 0}),
        (zoo.Mixing, {"share": 1.1}),
        (zoo.Averaging, {"decay": 1.0}),
        (zoo.Distillation, {"teacher": ""}),
        (zoo.Distillation, {"teacher": "x", "temperature": 0}),
        (zoo.Distillation, {"teacher": "x", "views": 0}),
        (zoo.EarlyStopping, {"patience": 1}),
        (zoo.ParamGroup, {"params": ""}),
        (zoo.ParamGroup, {"params": "*", "epochs": 0}),
    ],
)
def test_parts_of_a_recipe_are_validated(cls: type, changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(reversed(changes))):
        cls(**changes)


def test_replace_validates_again_and_fields_cannot_be_set() -> None:
    with pytest.raises(ValueError, match="epochs"):
        replace(RECIPE, epochs=0)
    with pytest.raises(FrozenInstanceError):
        RECIPE.epochs = 3  # type: ignore[misc]


@given(st.integers(1, 100), st.floats(1e-6, 1e3), st.floats(0.001, 0.999))
def test_json_and_pickle_round_trip(epochs: int, lr: float, momentum: float) -> None:
    recipe = replace(RECIPE, epochs=epochs + 20, lr=lr, momentum=momentum)
    assert from_json(zoo.Recipe, to_json(recipe)) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert hash(recipe) == hash(replace(recipe))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"unknown": 1}', "null", "NaN"])
def test_damaged_json_raises_our_own_error(text: str) -> None:
    with pytest.raises(zoo.CifarZooError):
        from_json(zoo.Recipe, text)


@pytest.mark.parametrize(
    ("sizes", "epochs", "expected"),
    [
        ((24, 28, 32), 9, [24, 24, 24, 28, 28, 28, 32, 32, 32]),
        ((24, 32), 3, [24, 32, 32]),
        ((24, 28, 32), 1, [32]),
        ((), 2, [None, None]),
    ],
)
def test_image_sizes_share_the_epochs(
    sizes: tuple[int, ...], epochs: int, expected: list[int | None]
) -> None:
    recipe = zoo.Recipe(epochs=epochs, image_sizes=sizes)
    assert [recipe.image_size(epoch) for epoch in range(epochs)] == expected


def test_numpy_numbers_become_python_numbers() -> None:
    made = zoo.Recipe(epochs=np.int64(3), lr=np.float32(0.5))  # type: ignore[arg-type]
    assert made == zoo.Recipe(epochs=3, lr=0.5)
    assert type(made.epochs) is int
    assert type(made.lr) is float


def test_scaling_epochs_preserves_proportions_and_is_reversible() -> None:
    scaled = scale_epochs(RECIPE, 40)
    assert (scaled.epochs, scaled.warmup_epochs, scaled.groups[0].epochs) == (40, 4, 10)
    assert scaled.averaging == zoo.Averaging(start_epochs=20)
    assert scaled.mixing == zoo.Mixing(kind="either", share=0.5, ramp_epochs=10)
    assert scale_epochs(scaled, 20) == RECIPE


def test_error_names_a_single_argument() -> None:
    assert validate("batch_size", np.int64(8), PositiveInt) == 8
    with pytest.raises(zoo.CifarZooError, match="batch_size is 0"):
        validate("batch_size", 0, PositiveInt)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "x" * 5000, "a\0b"])
def test_invalid_path_is_named(path: str) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        expand_path("checkpoint", path)
    with pytest.raises(TypeError, match="checkpoint"):
        expand_path("checkpoint", 3)  # type: ignore[arg-type]


def test_every_card_has_valid_recipes() -> None:
    for name in zoo.list_models():
        for recipe in zoo.model_card(name).recipes.values():
            assert zoo.Recipe(**asdict(recipe)) == recipe
