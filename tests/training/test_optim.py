from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from cifarzoo import OptionError, Recipe
from cifarzoo.spec import OptimizerName
from cifarzoo.training.optim import build_optimizer, build_schedule

STEPS = 5  # per epoch


def _rates(recipe: Recipe) -> list[float]:
    """Give the learning rate of every step of a run."""
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    schedule = build_schedule(recipe, optimizer, STEPS)
    rates = []
    for _ in range(recipe.epochs * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_optimizer_is_torchs_with_the_recipes_numbers(
    name: OptimizerName, kind: type[torch.optim.Optimizer]
) -> None:
    recipe = Recipe(optimizer=name, lr=0.25, momentum=0.5, weight_decay=0.125)
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.25
    assert optimizer.defaults["weight_decay"] == 0.125
    assert optimizer.defaults.get("momentum", 0.5) == 0.5


def test_what_the_recipe_does_not_say_is_torchs_default() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    ours = build_optimizer(Recipe(optimizer="adam", lr=0.001), [parameter]).defaults
    assert ours == Adam([parameter], lr=0.001).defaults
    ours = build_optimizer(Recipe(optimizer="sgd", lr=0.05), [parameter]).defaults
    assert ours == SGD([parameter], lr=0.05).defaults


def test_frozen_parameters_are_left_out() -> None:
    frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
    trained = nn.Parameter(torch.zeros(1))
    groups = build_optimizer(Recipe(weight_decay=0.1), [frozen, trained]).param_groups
    assert [id(p) for group in groups for p in group["params"]] == [id(trained)]


def test_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(OptionError, match="no trainable parameter; set requires_grad"):
        build_optimizer(Recipe(), [nn.Parameter(torch.zeros(1), requires_grad=False)])


def test_constant_rate() -> None:
    assert _rates(Recipe(epochs=3, lr=0.1)) == [0.1] * 15


def test_cosine_begins_at_the_rate_and_would_end_at_zero_after_the_last_step() -> None:
    total = 4 * STEPS
    expected = [0.1 * (1 + math.cos(math.pi * k / total)) / 2 for k in range(total)]
    assert _rates(Recipe(epochs=4, lr=0.1, schedule="cosine")) == pytest.approx(expected)


def test_warm_up_rises_linearly_and_reaches_the_rate() -> None:
    rates = _rates(Recipe(epochs=3, lr=0.1, warmup_epochs=1))
    assert rates == pytest.approx([0.1 * k / 6 for k in range(1, 6)] + [0.1] * 10)


def test_cosine_after_a_warm_up_spans_the_rest() -> None:
    rest = 3 * STEPS - 3
    rates = _rates(Recipe(epochs=3, lr=0.1, schedule="cosine", warmup_epochs=0.6))
    expected = [0.1 * k / 4 for k in range(1, 4)]
    expected += [0.1 * (1 + math.cos(math.pi * k / rest)) / 2 for k in range(rest)]
    assert rates == pytest.approx(expected)


def test_one_cycle_is_torchs_over_the_whole_run() -> None:
    recipe = Recipe(epochs=4, lr=0.1, schedule="one_cycle", momentum=0.9)
    rates = _rates(recipe)
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    peak = rates.index(max(rates))
    assert 0.2 < peak / len(rates) < 0.4
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < rates[0]


def test_momentum_is_not_cycled() -> None:
    recipe = Recipe(epochs=2, schedule="one_cycle", momentum=0.9)
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    schedule = build_schedule(recipe, optimizer, STEPS)
    for _ in range(2 * STEPS):
        assert optimizer.param_groups[0]["momentum"] == 0.9
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup_epochs", [0, 0.4, 0.99])
def test_shortest_run_has_a_positive_rate(schedule: str, warmup_epochs: float) -> None:
    if schedule == "one_cycle" and warmup_epochs:
        return
    recipe = replace(Recipe(epochs=1), schedule=schedule, warmup_epochs=warmup_epochs)  # type: ignore[arg-type]
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    schedule_of_one = build_schedule(recipe, optimizer, 1)
    assert 0 < optimizer.param_groups[0]["lr"] <= recipe.lr
    optimizer.step()
    schedule_of_one.step()
