from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
import torch

from cifarzoo import ModelCard, OptionError, count_params, layer_table, model_card
from cifarzoo.models.report import BASELINE, MODEL2, Layout
from cifarzoo.report.experiments import (
    ABLATION,
    EXPERIMENTS,
    Experiment,
    experiment_of,
    find_experiments,
)


def layout_of(card: ModelCard) -> Layout:
    layout: Layout = card.builder.args[0]  # type: ignore[attr-defined]
    return layout


def changes(experiment: Experiment, layout: Layout, base: ModelCard) -> list[str]:
    """Name what differs: fields of the network and of the recipe."""
    new = layout_of(experiment.card)
    in_layout = [f.name for f in fields(Layout) if getattr(new, f.name) != getattr(layout, f.name)]
    recipe = experiment.card.recipe
    in_recipe = [
        f.name for f in fields(recipe) if getattr(recipe, f.name) != getattr(base.recipe, f.name)
    ]
    return in_layout + in_recipe


@pytest.mark.parametrize("experiment", ABLATION, ids=lambda experiment: experiment.key)
def test_ablation_changes_one_thing(experiment: Experiment) -> None:
    assert len(changes(experiment, BASELINE, model_card("report_baseline"))) == 1


def test_ablation_covers_what_the_report_tried() -> None:
    base = model_card("report_baseline")
    tried = [name for each in ABLATION for name in changes(each, BASELINE, base)]
    assert sorted(tried) == sorted(
        ["block_norm", "dropout", "hidden", "batch_size", "batch_size", *["filters"] * 3]
    )


def test_model_2_loses_its_batch_norm_and_nothing_else() -> None:
    experiment = experiment_of("model2_without_batch_norm")
    assert changes(experiment, MODEL2, model_card("report_model2")) == ["block_norm"]


def test_extra_block_has_maps_of_2_by_2() -> None:
    with torch.device("meta"):
        model = experiment_of("ablation_extra_block").card.builder(10)
    pooled = [row.output_shape for row in layer_table(model) if row.kind == "MaxPool2d"]
    assert pooled[-1][1:] == (2, 2)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.key)
def test_network_can_be_built(experiment: Experiment) -> None:
    with torch.device("meta"):
        assert count_params(experiment.card.builder(10)) > 100_000


def test_keys_are_unique_and_name_their_cards_once() -> None:
    assert len({experiment.key for experiment in EXPERIMENTS}) == len(EXPERIMENTS) == 14
    assert len({experiment.card.name for experiment in EXPERIMENTS}) == 14


@pytest.mark.parametrize(
    ("key", "train", "val", "test", "steps"),
    [
        ("baseline", 0.8353, 0.7344, 0.7251, 5265),
        ("model1", 0.8647, 0.7554, 0.7522, 6327),
        ("model2", 0.8935, 0.7954, 0.7907, 7020),
        ("best", 0.9242, 0.8148, 0.8117, 6669),
        ("resnet18_transfer", 0.9754, 0.8988, 0.8872, 6327),
    ],
)
def test_reported_figures(key: str, train: float, val: float, test: float, steps: int) -> None:
    reported = experiment_of(key).reported
    assert reported is not None
    found = reported.train_accuracy, reported.val_accuracy, reported.test_accuracy, reported.steps
    assert found == (train, val, test, steps)


def test_cheapest_comes_first_whatever_the_order_of_the_keys() -> None:
    found = find_experiments(["best", "baseline", "model1"])
    assert [experiment.key for experiment in found] == ["baseline", "model1", "best"]
    assert find_experiments(None) == EXPERIMENTS
    assert [experiment.key for experiment in find_experiments("best")] == ["best"]


def test_unknown_key_gives_the_closest() -> None:
    with pytest.raises(OptionError, match="unknown experiment 'baselin'; did you mean 'baseline'"):
        find_experiments(["baselin"])


def test_no_key_is_an_error() -> None:
    with pytest.raises(OptionError, match="no experiment to run; allowed: baseline"):
        find_experiments([])


def test_key_must_fit_into_a_file_name() -> None:
    with pytest.raises(OptionError, match=re.escape("key is '../x'")):
        replace(EXPERIMENTS[0], key="../x")
