"""The scripts that compare: what they run, and what they refuse before anything runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cifarzoo import OptionError, Recipe, Selection, build_model, model_card
from cifarzoo.report import load_results
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import Record
from cifarzoo.training.optim import Optimizers

ROOT = Path(__file__).parents[1]
RECORDED = load_results(ROOT / "results" / "recipes").records


@pytest.fixture(scope="module")
def recipes(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that compares recipes."""
    return load_script("benchmarks/recipes.py")


@pytest.fixture(scope="module")
def readme(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that writes tables."""
    return load_script("benchmarks/readme.py")


@pytest.mark.muon
@pytest.mark.parametrize("name", ["vgg11_bn", "mobilenet_v2", "sprint_s", "report_baseline"])
@pytest.mark.parametrize("recipe", ["own", "sgd"])
def test_recipes_of_every_family_can_be_compared(
    recipes: ModuleType, name: str, recipe: str
) -> None:
    card = recipes.experiment_of(name, recipe, 3).card
    model = build_model(name, weights=None)
    Optimizers(card.recipe, model.named_parameters(), steps_per_epoch=10)
    assert (card.recipe.epochs, card.recipe.val_fraction, card.recipe.keep) == (3, 0.1, "last")
    assert card.recipe.early_stopping is None


def test_own_recipe_is_the_cards_with_its_parts_in_proportion(recipes: ModuleType) -> None:
    mine = model_card("sprint_s").recipe
    tried: Recipe = recipes.experiment_of("sprint_s", "own", 3 * mine.epochs).card.recipe
    (whitening,) = (group.epochs for group in mine.groups if group.epochs is not None)
    assert [group.epochs for group in tried.groups if group.epochs] == [3 * whitening]
    whole = replace(tried, epochs=mine.epochs, groups=mine.groups, val_fraction=mine.val_fraction)
    assert whole == mine


def test_selected_has_rates_for_the_half_that_a_step_is_taken_with(recipes: ModuleType) -> None:
    half: Recipe = recipes.experiment_of("sprint_m", "selected", 6).card.recipe
    whole: Recipe = recipes.experiment_of("sprint_m", "cutout", 6).card.recipe
    assert half.selection == Selection(proxy="sprint_s", share=0.5)
    assert (half.batch_size, half.augmentation) == (whole.batch_size, whole.augmentation)
    assert half.lr == pytest.approx(whole.lr / math.sqrt(2))


def test_recorded_runs_are_of_the_recipes_as_they_are(recipes: ModuleType) -> None:
    assert RECORDED
    for record in RECORDED:
        name, recipe = record.title.split(", ")
        if recipe == "own":  # the card's, when it ran
            continue
        experiment = recipes.experiment_of(name, recipe, record.recipe.epochs)
        assert (record.key, record.recipe) == (experiment.key, experiment.card.recipe)
        assert record.test is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("resnet21", "--recipes", "own,sgd"), "unknown model 'resnet21'"),
        (("resnet20", "--recipes", "own,adam"), "no recipe is called 'adam'; there are own, sgd"),
        (("resnet20", "--recipes", "own,cutout"), "not of resnet20; own and sgd are everybody's"),
        (("resnet20", "--recipes", "own"), "--recipes is 'own'; allowed: two or more, each once"),
        (("resnet20", "--recipes", "own,own"), "allowed: two or more, each once"),
        (("resnet20", "--recipes", "own,own@2"), "'own,own@2', two of which are the same"),
        (("resnet20", "--recipes", "own,sgd@x"), "'sgd@x'; allowed after the @: a number of epo"),
        (("resnet20", "--recipes", "own,sgd@0"), "epochs is 0; allowed: whole numbers, 1 or more"),
        (
            ("resnet20", "--recipes", "own,sgd", "--seeds", "0,a"),
            "--seeds: '0,a' is not allowed; needed",
        ),
        (("resnet20", "--recipes", "own,sgd", "--device", "tpu"), "device 'tpu' cannot be used"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_run(
    recipes: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(recipes, "run_once", lambda *args: pytest.fail("a run began"))
    command = ("recipes.py", *options, "--epochs", "2", "--out", str(tmp_path))
    monkeypatch.setattr(sys, "argv", list(command))
    with pytest.raises(SystemExit) as stopped:
        recipes.main()
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert not list(tmp_path.iterdir())


def test_each_run_is_scored_on_the_validation_split_alone(
    recipes: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[tuple[str, int, str]] = []

    def recorded(experiment: Experiment, seed: int, conditions: Conditions) -> Record:
        given.append((experiment.key, seed, conditions.scored))
        (found,) = (r for r in RECORDED if (r.key, r.seed) == (experiment.key, seed))
        return found

    monkeypatch.setattr(recipes, "run_once", recorded)
    command = "recipes.py sprint_s --epochs 16 --recipes cutout,cutmix --seeds 0,1 --device cpu"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--out", str(tmp_path)])
    recipes.main()
    keys = ("sprint_s_cutout_16", "sprint_s_cutmix_16")
    assert given == [(key, seed, "val") for seed in (0, 1) for key in keys]
    said = capsys.readouterr().out
    assert "a is cutout, b is cutmix: a − b: +0.35 points" in said
    assert "paired t-test over 2 pairs" in said


def test_a_recipe_may_have_epochs_of_its_own(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int]] = []

    def recorded(experiment: Experiment, seed: int, conditions: Conditions) -> Record:
        given.append((experiment.key, experiment.card.recipe.epochs))
        return RECORDED[0]

    monkeypatch.setattr(recipes, "run_once", recorded)
    monkeypatch.setattr(recipes, "val_by_seed", lambda records: {0: 0.5})
    command = "recipes.py sprint_m --epochs 2 --recipes cutout,selected@3 --seeds 0 --device cpu"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--out", str(tmp_path)])
    recipes.main()
    assert given == [("sprint_m_cutout_2", 2), ("sprint_m_selected_3", 3)]


def test_table_pairs_the_seeds_that_both_recipes_have(readme: ModuleType) -> None:
    (more,) = (r for r in RECORDED if (r.key, r.seed) == ("sprint_s_cutout_16", 0))
    text = readme.recipes_table("one thread", [*RECORDED, replace(more, seed=7)])
    assert "| 3 |  |  |" in text
    assert "| 2 | +0.35 (−4.86 to +5.56) | +0.76, −0.06 |" in text


def test_a_run_without_validation_images_is_refused(readme: ModuleType) -> None:
    lost = replace(RECORDED[0], val=None)
    with pytest.raises(ValueError, match=f"{lost.key}, seed {lost.seed}: no validation images"):
        readme.val_by_seed([lost, *RECORDED[1:]])


def test_unknown_recipe_is_an_error_of_the_package(recipes: ModuleType) -> None:
    with pytest.raises(OptionError, match="no recipe is called 'adam'"):
        recipes.experiment_of("resnet20", "adam", 3)
