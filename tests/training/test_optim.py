from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR

from cifarzoo import ParamGroup, Recipe
from cifarzoo.errors import InvalidValueError
from cifarzoo.recipe import OptimizerName, ScheduleName
from cifarzoo.training.optim import Optimizers

STEPS = 5  # per epoch


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))


def _optimizers(model: nn.Module, recipe: Recipe) -> Optimizers:
    return Optimizers(recipe, model.named_parameters(), STEPS)


def _groups(optimizers: Optimizers) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers.optimizers for group in optimizer.param_groups]


def _rates(recipe: Recipe, group: int = 0) -> list[float]:
    """Return the learning rate of every step of a run."""
    optimizers, rates = _optimizers(_net(), recipe), []
    for step in range(recipe.epochs * STEPS):
        optimizers.set_lr(step)
        rates.append(float(_groups(optimizers)[group]["lr"]))
    return rates


def _backward(model: nn.Module) -> None:
    images = torch.rand(6, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(model(images), torch.arange(6) % 2))


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("sgd", SGD, {"momentum": 0.5, "nesterov": True}),
        ("adam", Adam, {"fused": True}),
        ("adamw", AdamW, {"fused": True}),
    ],
)
def test_steps_equal_those_of_torch(
    name: OptimizerName, kind: Callable[..., Any], options: dict[str, Any]
) -> None:
    ours, theirs = _net(), _net()
    recipe = Recipe(optimizer=name, lr=0.25, momentum=0.5, nesterov=True, weight_decay=0.125)
    optimizers = _optimizers(ours, recipe)
    expected = kind(theirs.parameters(), lr=0.25, weight_decay=0.125, **options)
    for _ in range(3):
        for model, optimizer in ((ours, optimizers), (theirs, expected)):
            _backward(model)
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def _torch_rates(schedule: ScheduleName, epochs: int) -> list[float]:
    optimizer, steps = SGD([nn.Parameter(torch.zeros(1))], lr=0.1), epochs * STEPS
    scheduler: LRScheduler = {
        "linear": lambda: LinearLR(optimizer, 1.0, 0.0, steps),
        "cosine": lambda: CosineAnnealingLR(optimizer, steps),
        "one_cycle": lambda: OneCycleLR(optimizer, 0.1, steps),
    }[schedule]()  # type: ignore[no-untyped-call]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one_cycle"])
@pytest.mark.parametrize("epochs", [1, 7])
def test_schedules_equal_those_of_torch(schedule: ScheduleName, epochs: int) -> None:
    rates = _rates(Recipe(epochs=epochs, lr=0.1, schedule=schedule))
    assert rates == pytest.approx(_torch_rates(schedule, epochs))


def test_warm_up_is_linear() -> None:
    rates = _rates(Recipe(epochs=3, lr=0.1, warmup_epochs=1))
    assert rates == pytest.approx([0.1 * k / 6 for k in range(1, 6)] + [0.1] * 10)


def _decays(recipe: Recipe) -> dict[str, float]:
    net = _net()
    names = {id(tensor): name for name, tensor in net.named_parameters()}
    groups = _groups(_optimizers(net, recipe))
    return {names[id(each)]: group["weight_decay"] for group in groups for each in group["params"]}


def test_norms_and_biases_decay_unless_excluded_or_in_a_group_with_weight_decay() -> None:
    assert set(_decays(Recipe(weight_decay=0.5)).values()) == {0.5}
    groups = (ParamGroup(params="0.*", lr=0.2), ParamGroup(params="3.*", weight_decay=0.25))
    recipe = Recipe(weight_decay=0.5, decay_norm_and_bias=False, groups=groups)
    expected = {"0.weight": 0.5, "0.bias": 0, "1.weight": 0, "1.bias": 0}
    assert _decays(recipe) == {**expected, "3.weight": 0.25, "3.bias": 0.25}


def test_first_matching_group_wins_and_inherits_from_the_recipe() -> None:
    groups = (
        ParamGroup(params="1.bias", lr=6.4, momentum=0.0),
        ParamGroup(params="*.bias", weight_decay=0.0),
        ParamGroup(params="3.*", optimizer="adam", lr=1.0),
    )
    recipe = Recipe(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, groups=groups)
    optimizers = _optimizers(_net(), recipe)
    assert {type(each) for each in optimizers.optimizers} == {SGD, Adam}
    found = [
        (len(g["params"]), *(g[name] for name in ("lr", "momentum", "nesterov", "weight_decay")))
        for g in _groups(optimizers)
    ]
    assert sorted(found, key=lambda group: group[1:2] + group[4:]) == [
        (2, 0.1, 0.9, True, 0.0),
        (2, 0.1, 0.9, True, 0.01),
        (1, 1.0, 0.9, True, 0.01),
        (1, 6.4, 0.0, False, 0.01),
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((ParamGroup(params="*.gamma"),), r"'\*\.gamma' matches no trainable parameter"),
        ((ParamGroup(params="3.wieght"),), "did you mean '3.weight'"),
        ((ParamGroup(params="*.bias"), ParamGroup(params="3.bias")), "'3.bias' matches no"),
        ((ParamGroup(params="*", epochs=2),), "every group ends before epoch 3"),
    ],
)
def test_groups_that_do_not_fit_are_rejected(groups: tuple[ParamGroup, ...], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        _optimizers(_net(), Recipe(epochs=3, groups=groups))


def test_schedule_of_a_group_runs_over_its_own_epochs() -> None:
    groups = (ParamGroup(params="1.*", lr=1.0, epochs=2),)
    recipe = Recipe(epochs=4, lr=0.1, schedule="linear", groups=groups)
    assert _rates(recipe, 0) == pytest.approx([0.005 * k for k in range(20, 0, -1)])
    assert _rates(recipe, 1) == pytest.approx([0.1 * k for k in range(10, 0, -1)] + [0] * 10)


def test_parameters_are_frozen_after_their_epochs_until_released() -> None:
    model = _net()
    groups = (
        ParamGroup(params="0.*", epochs=2, fix_norm=True),
        ParamGroup(params="*", epochs=None),
    )
    optimizers = _optimizers(model, Recipe(epochs=3, lr=0.5, groups=groups))
    weight, needed = model.get_parameter("0.weight"), []
    for step in (2 * STEPS - 1, 2 * STEPS):
        optimizers.set_lr(step)
        needed.append(weight.requires_grad)
    assert needed == [True, False]
    assert model.get_parameter("1.weight").requires_grad
    weight.data *= 2  # from here on, steps change neither its norm nor its values
    before = weight.detach().clone()
    _backward(model)
    optimizers.step()
    assert torch.equal(weight, before)
    optimizers.release()
    assert all(tensor.requires_grad for tensor in model.parameters())


def test_fix_norm_changes_the_direction_only() -> None:
    model = _net()
    groups = (ParamGroup(params="0.weight", fix_norm=True),)
    optimizers = _optimizers(model, Recipe(lr=0.5, groups=groups))
    weight = model.get_parameter("0.weight")
    norm, before = weight.norm().item(), weight.detach().clone()
    for _ in range(3):
        _backward(model)
        optimizers.step()
    for group in _groups(optimizers):
        group["lr"] = 0.0
    optimizers.step()
    assert weight.norm().item() == pytest.approx(norm, rel=1e-5)
    assert not torch.allclose(weight, before, atol=1e-3)


MUON = Recipe(
    optimizer="muon",
    lr=0.1,
    momentum=0.6,
    nesterov=True,
    groups=(
        ParamGroup(params="1.*", optimizer="sgd"),
        ParamGroup(params="*.bias", optimizer="sgd"),
    ),
)


@pytest.mark.muon
def test_muon_treats_a_filter_as_a_row_in_any_memory_format() -> None:
    plain = _net()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    weight = nn.Parameter(plain.get_parameter("0.weight").detach().flatten(1).clone())
    theirs = torch.optim.Muon([weight], lr=0.1, momentum=0.6, nesterov=True, weight_decay=0)
    for model in (plain, last):
        optimizers = _optimizers(model, MUON)
        _backward(model)
        optimizers.step()
    gradient = plain.get_parameter("0.weight").grad
    assert gradient is not None
    weight.grad = gradient.flatten(1)
    theirs.step()  # type: ignore[no-untyped-call]
    found = plain.get_parameter("0.weight")
    torch.testing.assert_close(found.flatten(1), weight)
    # Muon orthogonalizes in bfloat16, whose rounding depends on the order of the columns.
    torch.testing.assert_close(last.get_parameter("0.weight"), found, atol=2e-3, rtol=0)


def test_muon_requires_matrices_and_torch_2_9(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match=r"'muon' for 0\.bias, 1\.weight"):
        _optimizers(_net(), Recipe(optimizer="muon"))
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(InvalidValueError, match=r"expected 2\.9 or later"):
        _optimizers(_net(), MUON)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_gradient_may_be_missing_in_the_first_step(name: OptimizerName) -> None:
    always, later = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    recipe = Recipe(optimizer=name, lr=0.1, momentum=0.9)
    optimizers = Optimizers(recipe, [("always", always), ("later", later)], STEPS)
    always.grad = torch.ones(2)
    optimizers.step()
    assert bool((later == 1).all())
    later.grad = torch.ones(3)
    optimizers.step()
    assert bool((later < 1).all())


def test_step_on_a_strided_parameter_leaves_other_memory_alone() -> None:
    """Torch's fused Adam would write into the gaps."""
    whole: Tensor = torch.zeros(2, 6)
    strided = nn.Parameter(whole[:, ::2])
    optimizers = Optimizers(Recipe(optimizer="adam", lr=1.0), [("strided", strided)], STEPS)
    strided.grad = torch.ones(2, 3)
    optimizers.step()
    torch.testing.assert_close(whole, torch.tensor([[-1.0, 0] * 3] * 2))
