from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifarzoo import Loaders, OptionError, Recipe, TensorLoader
from cifarzoo.report import conditions as conditions_module
from cifarzoo.report.conditions import QUICK_IMAGES, Conditions, load, recipe_of
from cifarzoo.report.experiments import experiment_of


def test_quick_run_is_one_epoch_of_a_few_images(tmp_path: Path) -> None:
    conditions = Conditions(folder=tmp_path, data="shapes", mode="quick")
    experiment = experiment_of("ablation_batch_128")
    recipe = recipe_of(experiment, "quick")
    assert replace(recipe, epochs=10) == experiment.card.recipe == recipe_of(experiment, "full")
    loaders = load(conditions, recipe, seed=0)
    assert isinstance(loaders.train, TensorLoader)
    assert loaders.train.n == 0.9 * QUICK_IMAGES
    assert len(loaders.train) >= 2
    assert loaders.val is not None
    assert loaders.test is not None


def test_quick_run_on_other_data_takes_its_first_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_loaders: Callable[..., Loaders]
) -> None:
    whole = make_loaders(batch_size=16, n_train=QUICK_IMAGES + 50, n_test=QUICK_IMAGES, seed=5)
    asked: dict[str, object] = {}

    def load_data(data: str, recipe: Recipe, **options: object) -> Loaders:
        asked.update(options, data=data)
        return whole

    monkeypatch.setattr(conditions_module, "load_data", load_data)
    conditions = Conditions(folder=tmp_path, root=tmp_path, mode="quick", device="cpu")
    found = load(conditions, Recipe(batch_size=16), seed=5)
    wanted = {"data": "cifar10", "root": tmp_path, "seed": 5, "download": True, "device": "cpu"}
    assert asked == wanted
    assert isinstance(found.train, TensorLoader)
    assert isinstance(found.test, TensorLoader)
    assert (found.train.n, found.train.batch_size, found.train.seed) == (QUICK_IMAGES, 16, 5)
    assert found.test.n == QUICK_IMAGES // 3
    first, second = (next(iter(found.train))[1] for _ in range(2))
    assert not torch.equal(first, second)


def test_test_set_can_be_left_alone(tmp_path: Path) -> None:
    conditions = Conditions(folder=tmp_path, data="shapes", mode="quick", scored="val")
    loaders = load(conditions, Recipe(), seed=0)
    assert loaders.val is not None
    assert loaders.test is None


def test_no_set_is_left_to_score_where_none_is_held_out(tmp_path: Path) -> None:
    conditions = Conditions(folder=tmp_path, data="shapes", scored="val", device="cpu")
    with pytest.raises(OptionError, match=r"val_fraction is 0.0; needed is one above 0"):
        load(conditions, Recipe(val_fraction=0.0), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scored": "vall"}, "unknown scored 'vall'; did you mean 'val'"),
        ({"scored": "val", "tta": "flip"}, "tta is 'flip'.*allowed with it: 'none'"),
    ],
)
def test_scoring_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Conditions(folder=tmp_path, **changes)


def test_unknown_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown data set 'cifar'"):
        load(Conditions(folder=tmp_path, data="cifar"), Recipe(), seed=0)
