from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cifarzoo import OptionError, ParamGroup, Recipe
from cifarzoo.spec import OptimizerName, ScheduleName
from cifarzoo.training.optim import Optimizers

STEPS = 5  # per epoch


def _one(recipe: Recipe, *, parameter: nn.Parameter | None = None) -> Optimizers:
    parameter = nn.Parameter(torch.zeros(1)) if parameter is None else parameter
    return Optimizers(recipe, [("weight", parameter)], STEPS)


def _rates(recipe: Recipe, group: int = 0, model: nn.Module | None = None) -> list[float]:
    """Give the learning rate of every step of a run."""
    optimizers = _one(recipe) if model is None else _of(model, recipe)
    rates = []
    for step in range(recipe.epochs * STEPS):
        optimizers.set_rates(step)
        rates.append(float(_groups(optimizers)[group]["lr"]))
    optimizers.release()
    return rates


def _groups(optimizers: Optimizers) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers.optimizers for group in optimizer.param_groups]


def _of(model: nn.Module, recipe: Recipe) -> Optimizers:
    return Optimizers(recipe, model.named_parameters(), STEPS)


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))


def _backward(model: nn.Module, images: Tensor | None = None) -> None:
    torch.manual_seed(1)
    images = torch.rand(6, 3, 3, 3) if images is None else images
    loss = nn.functional.cross_entropy(model(images), torch.arange(6) % 2)
    torch.autograd.backward(loss)


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_optimizer_is_torchs_with_the_recipes_numbers(
    name: OptimizerName, kind: type[torch.optim.Optimizer]
) -> None:
    recipe = Recipe(optimizer=name, lr=0.25, momentum=0.5, nesterov=True, weight_decay=0.125)
    (optimizer,) = _one(recipe).optimizers
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    assert group.get("momentum", 0.5) == 0.5
    assert group.get("nesterov", True) is True


def test_what_the_recipe_does_not_say_is_torchs_default() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    for recipe, theirs in (
        (Recipe(optimizer="adam", lr=0.001), Adam([parameter], lr=0.001, fused=True)),
        (Recipe(optimizer="sgd", lr=0.05), SGD([parameter], lr=0.05)),
    ):
        (ours,) = _one(recipe, parameter=parameter).optimizers
        assert ours.param_groups == theirs.param_groups


def _decays(recipe: Recipe) -> dict[str, float]:
    """Give the weight decay of every parameter of the small network, by its name."""
    net = _net()
    names = {id(tensor): name for name, tensor in net.named_parameters()}
    groups = _groups(_of(net, recipe))
    return {names[id(each)]: group["weight_decay"] for group in groups for each in group["params"]}


def test_everything_decays_unless_the_recipe_says_weights() -> None:
    assert set(_decays(Recipe(weight_decay=0.5)).values()) == {0.5}
    found = _decays(Recipe(weight_decay=0.5, decay="weights"))
    assert {name for name, decay in found.items() if decay} == {"0.weight", "3.weight"}
    assert found["0.weight"] == 0.5


def test_groups_leave_their_decay_to_the_recipe_or_have_their_own() -> None:
    groups = (
        ParamGroup(params="0.*", lr=0.2),
        ParamGroup(params="3.*", weight_decay=0.25),
    )
    found = _decays(Recipe(weight_decay=0.5, decay="weights", groups=groups))
    assert found == {
        "0.weight": 0.5,
        "0.bias": 0,
        "1.weight": 0,
        "1.bias": 0,
        "3.weight": 0.25,
        "3.bias": 0.25,
    }


def test_what_does_not_decay_keeps_the_groups_other_settings() -> None:
    groups = (ParamGroup(params="0.*", lr=0.2, optimizer="adam", epochs=1),)
    recipe = Recipe(epochs=2, lr=0.1, weight_decay=0.5, decay="weights", groups=groups)
    optimizers = _of(_net(), recipe)
    rates = sorted((len(g["params"]), g["lr"], g["weight_decay"]) for g in _groups(optimizers))
    assert rates == [(1, 0.1, 0.5), (1, 0.2, 0.0), (1, 0.2, 0.5), (3, 0.1, 0.0)]


def test_frozen_parameters_are_left_out() -> None:
    frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
    trained = nn.Parameter(torch.zeros(1))
    optimizers = Optimizers(Recipe(), [("frozen", frozen), ("trained", trained)], STEPS)
    assert [group["params"] for group in _groups(optimizers)] == [[trained]]


def test_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(OptionError, match="no trainable parameter; set requires_grad"):
        _one(Recipe(), parameter=nn.Parameter(torch.zeros(1), requires_grad=False))


def test_constant_rate() -> None:
    assert _rates(Recipe(epochs=3, lr=0.1)) == [0.1] * 15


def test_linear_rate_would_be_zero_after_the_last_step() -> None:
    rates = _rates(Recipe(epochs=2, lr=0.1, schedule="linear"))
    assert rates == pytest.approx([0.01 * k for k in range(10, 0, -1)])


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


@pytest.mark.parametrize("epochs", [1, 2, 4, 7])
def test_one_cycle_is_torchs_over_the_whole_run(epochs: int) -> None:
    theirs = SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = OneCycleLR(theirs, max_lr=0.1, total_steps=epochs * STEPS + 1)
    expected = []
    for _ in range(epochs * STEPS):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        schedule.step()
    assert _rates(Recipe(epochs=epochs, lr=0.1, schedule="one_cycle")) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup_epochs", [0, 0.4, 0.99])
def test_shortest_run_has_a_positive_rate(schedule: ScheduleName, warmup_epochs: float) -> None:
    if schedule == "one_cycle" and warmup_epochs:
        return
    recipe = replace(Recipe(epochs=1), schedule=schedule, warmup_epochs=warmup_epochs)
    optimizers = Optimizers(recipe, [("weight", nn.Parameter(torch.zeros(1)))], 1)
    assert 0 < optimizers.lr <= recipe.lr


def test_first_group_that_fits_holds_and_the_recipe_fills_in() -> None:
    model = _net()
    recipe = Recipe(
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.01,
        groups=(
            ParamGroup(params="1.bias", lr=6.4, momentum=0.0),
            ParamGroup(params="*.bias", weight_decay=0.0),
        ),
    )
    (optimizer,) = _of(model, recipe).optimizers
    found = [
        (len(g["params"]), g["lr"], g["momentum"], g["nesterov"], g["weight_decay"])
        for g in optimizer.param_groups
    ]
    assert found == [
        (1, 6.4, 0.0, False, 0.01),
        (2, 0.1, 0.9, True, 0.0),
        (3, 0.1, 0.9, True, 0.01),
    ]


def test_pattern_that_fits_nothing_is_refused_with_the_names_there_are() -> None:
    recipe = Recipe(groups=(ParamGroup(params="*.gamma"),))
    with pytest.raises(OptionError, match=r"'\*\.gamma' fits no trainable parameter;.*3\.weight"):
        _of(_net(), recipe)


def test_pattern_with_a_typo_gets_the_closest_that_fits() -> None:
    recipe = Recipe(groups=(ParamGroup(params="*.wieght"),))
    with pytest.raises(OptionError, match=r"did you mean '\*\.weight'\? model\.named_parameters"):
        _of(_net(), recipe)


def test_pattern_whose_parameters_are_taken_before_says_by_which() -> None:
    recipe = Recipe(groups=(ParamGroup(params="*.bias"), ParamGroup(params="3.bias")))
    with pytest.raises(
        OptionError, match=r"'3\.bias' fits 3\.bias, which '\*\.bias' before it takes; .* put it"
    ):
        _of(_net(), recipe)
    for last in ("*.bias", "*.weight"):
        before = (ParamGroup(params="*.weight"), ParamGroup(params="*.bias"))
        groups = (*before, ParamGroup(params=last, lr=0.5))
        with pytest.raises(OptionError, match="leave it out, or let those before it fit less"):
            _of(_net(), Recipe(groups=groups))


def test_group_has_optimizer_and_epochs_of_its_own() -> None:
    recipe = Recipe(
        epochs=4,
        lr=0.1,
        schedule="linear",
        groups=(ParamGroup(params="1.*", optimizer="adam", lr=1.0, epochs=2),),
    )
    model = _net()
    assert [type(each) for each in _of(model, recipe).optimizers] == [Adam, SGD]
    assert _rates(recipe, 0, model) == pytest.approx([0.1 * k for k in range(10, 0, -1)] + [0] * 10)
    assert _rates(recipe, 1, model) == pytest.approx([0.005 * k for k in range(20, 0, -1)])


def test_parameters_whose_epochs_are_over_need_no_gradient_until_released() -> None:
    model = _net()
    groups = (ParamGroup(params="0.*", epochs=2), ParamGroup(params="1.bias", epochs=1))
    optimizers = _of(model, Recipe(epochs=3, groups=groups))

    def needed(step: int) -> set[str]:
        optimizers.set_rates(step)
        return {name for name, tensor in model.named_parameters() if tensor.requires_grad}

    last = {"1.weight", "3.weight", "3.bias"}
    first = {"0.weight", "0.bias"}
    assert needed(STEPS - 1) == {*last, *first, "1.bias"}
    assert needed(STEPS) == {*last, *first}
    assert needed(2 * STEPS - 1) == {*last, *first}
    assert needed(2 * STEPS) == last
    before = model.get_parameter("0.weight").detach().clone()
    _backward(model)
    optimizers.step()
    assert model.get_parameter("0.weight").grad is None
    assert torch.equal(model.get_parameter("0.weight"), before)
    optimizers.release()
    assert all(tensor.requires_grad for tensor in model.parameters())


def test_groups_that_all_end_before_the_run_are_refused() -> None:
    groups = (ParamGroup(params="*", epochs=2),)
    with pytest.raises(OptionError, match="epochs is 3, but the groups that train every parameter"):
        _of(_net(), Recipe(epochs=3, groups=groups))


def test_kept_norm_stays_while_the_direction_changes() -> None:
    model = _net()
    groups = (ParamGroup(params="0.weight", norm="kept"),)
    optimizers = _of(model, Recipe(lr=0.5, groups=groups))
    weight = model.get_parameter("0.weight")
    norm, before = weight.norm().item(), weight.detach().clone()
    for _ in range(3):
        _backward(model)
        optimizers.step()
        optimizers.zero_grad()
    optimizers.optimizers[0].param_groups[0]["lr"] = 0.0
    _backward(model)
    optimizers.step()
    assert weight.norm().item() == pytest.approx(norm, rel=1e-5)
    assert not torch.allclose(weight, before, atol=1e-3)


def test_norm_is_left_alone_when_the_groups_epochs_are_over() -> None:
    model = _net()
    weight = model.get_parameter("0.weight")
    groups = (ParamGroup(params="0.weight", norm="kept", epochs=1),)
    optimizers = _of(model, Recipe(epochs=2, lr=0.5, groups=groups))
    optimizers.set_rates(5)
    weight.data *= 2
    before = weight.detach().clone()
    _backward(model)
    optimizers.step()
    assert torch.equal(weight, before)


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
def test_muon_takes_a_filter_as_a_row_in_any_memory_format() -> None:
    plain = _net()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    weight = nn.Parameter(plain.get_parameter("0.weight").detach().flatten(1).clone())
    theirs = torch.optim.Muon([weight], lr=0.1, momentum=0.6, nesterov=True, weight_decay=0)
    of_plain, of_last = _of(plain, MUON), _of(last, MUON)
    for model, optimizers in ((plain, of_plain), (last, of_last)):
        _backward(model)
        optimizers.step()
    gradient = plain.get_parameter("0.weight").grad
    assert gradient is not None
    weight.grad = gradient.flatten(1)
    theirs.step()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(plain.get_parameter("0.weight").flatten(1), weight)
    # Orthogonalised in bfloat16, whose rounding depends on the order of the columns.
    torch.testing.assert_close(
        last.get_parameter("0.weight"), plain.get_parameter("0.weight"), atol=2e-3, rtol=0
    )
    of_plain.zero_grad()
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_torch_without_muon_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(OptionError, match=r"torch 2\.9 does"):
        _of(_net(), MUON)


@pytest.mark.muon
def test_state_goes_over_to_another_run() -> None:
    recipe = replace(MUON, groups=(*MUON.groups, ParamGroup(params="0.weight", norm="kept")))
    models = [_net(), _net()]
    first, second = (_of(model, recipe) for model in models)
    for _ in range(2):
        _backward(models[0])
        first.step()
        first.zero_grad()
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizers in zip(models, (first, second), strict=True):
        _backward(model)
        optimizers.step()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_norm_of_zeros_cannot_be_kept() -> None:
    model = _net()
    nn.init.zeros_(model.get_parameter("3.bias"))
    recipe = Recipe(groups=(ParamGroup(params="*.bias", norm="kept"),))
    with pytest.raises(OptionError, match=r"norm is 'kept' for 1\.bias, which is all zeros"):
        _of(model, recipe)


@pytest.mark.muon
def test_muon_refuses_a_tensor_that_is_no_matrix_in_memory() -> None:
    tensor = nn.Parameter(torch.rand(4, 3, 5).transpose(1, 2))
    with pytest.raises(OptionError, match=r"shape \(4, 5, 3\) has strides \(15, 1, 5\)"):
        _one(Recipe(optimizer="muon"), parameter=tensor)


@pytest.mark.muon
def test_muon_refuses_a_parameter_that_was_moved_during_the_run() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 4), nn.Linear(4, 2))
    groups = (ParamGroup(params="*.bias", optimizer="sgd"),)
    optimizers = _of(model, Recipe(optimizer="muon", groups=groups))
    _backward(model)
    optimizers.step()
    weight = model.get_parameter("1.weight")
    weight.data = weight.data.clone()
    with pytest.raises(OptionError, match="was moved in memory during the run"):
        optimizers.step()


def test_muon_names_the_parameters_that_it_cannot_train() -> None:
    with pytest.raises(OptionError, match=r"'muon' for 0\.bias \(8,\), 1\.weight .*ParamGroup"):
        _of(_net(), Recipe(optimizer="muon"))


def _pair() -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_gradients_may_come_later_than_the_first_step(name: OptimizerName) -> None:
    always, later = _pair()
    recipe = Recipe(optimizer=name, lr=0.1, momentum=0.9)
    optimizers = Optimizers(recipe, [("always", always), ("later", later)], 5)
    always.grad = torch.ones(2)
    optimizers.step()
    assert bool((later == 1).all())
    later.grad = torch.ones(3)
    optimizers.step()
    assert bool((later < 1).all())


def test_parameters_with_gaps_in_memory_are_not_fused() -> None:
    whole = torch.zeros(2, 6)
    gappy = nn.Parameter(whole[:, ::2])
    optimizers = Optimizers(Recipe(optimizer="adam", lr=1.0), [("gappy", gappy)], 5)
    gappy.grad = torch.ones(2, 3)
    optimizers.step()
    assert torch.equal(whole[:, 1::2], torch.zeros(2, 3))
    torch.testing.assert_close(gappy.detach(), torch.full((2, 3), -1.0))


def test_fusing_is_decided_here_and_not_by_the_state() -> None:
    (one, _), recipe = _pair(), Recipe(optimizer="adam", lr=0.1)
    ours = Optimizers(recipe, [("one", one)], 5)
    stored = ours.state_dict()
    stored["optimizers"][0]["param_groups"][0]["fused"] = None  # an older version's
    ours.load_state_dict(stored)
    assert ours.optimizers[0].param_groups[0]["fused"] is True
