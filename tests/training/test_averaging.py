"""The average of a run's weights, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Averaging, build_model
from cifarzoo.training.averaging import Average, add_states

VALUES = [1.0, 4.0, -2.0, 8.0]


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))


def _averaged(averaging: Averaging | None, start: int = 0) -> tuple[nn.Module, Average]:
    """Set all weights and running means to each value in turn."""
    net = _net()
    average = Average(averaging, net, start)
    for step, value in enumerate(VALUES, 1):
        with torch.no_grad():
            for tensor in (*net.parameters(), net[1].running_mean):
                assert isinstance(tensor, Tensor)
                tensor.fill_(value)
        net[1].num_batches_tracked = torch.tensor(step)
        average.update(step)
    return net, average


def _expected(averaging: Averaging, start: int) -> float:
    values = VALUES[start:]
    if averaging.decay is None:
        return sum(values) / len(values)
    found = values[0]
    for count, value in enumerate(values[1:], 1):
        decay = min(averaging.decay, (1 + count) / (10 + count))
        found = decay * found + (1 - decay) * value
    return found


@pytest.mark.parametrize("decay", [0.2, 0.9, None])
@pytest.mark.parametrize("start", [0, 2, 3])
def test_average_is_of_the_states_after_the_start(decay: float | None, start: int) -> None:
    averaging = Averaging(decay=decay)
    net, average = _averaged(averaging, start)
    assert average.model is not net
    expected = pytest.approx(_expected(averaging, start))
    for name, tensor in average.model.state_dict().items():
        if name == "1.num_batches_tracked":
            assert tensor.item() == len(VALUES)
        elif name != "1.running_var":
            assert tensor.flatten()[0].item() == expected, name
    assert next(net.parameters()).flatten()[0].item() == VALUES[-1]


def test_before_the_start_the_average_is_the_model_itself() -> None:
    net, average = _averaged(Averaging(), start=len(VALUES))
    assert average.model is net


def test_without_averaging_nothing_is_kept() -> None:
    net, average = _averaged(None)
    assert average.model is net
    assert average.state_dict() is None
    average.load_state_dict(None)


def test_average_goes_on_from_its_state() -> None:
    averaging = Averaging(decay=0.1)
    _, whole = _averaged(averaging)
    net = _net()
    again = Average(averaging, net, 0)
    again.load_state_dict(whole.state_dict())
    for average in (whole, again):
        assert average.state_dict()
    other = dict(again.model.state_dict())
    assert all(torch.equal(other[name], value) for name, value in whole.model.state_dict().items())
    with torch.no_grad():
        net.get_parameter("0.weight").zero_()
    again.update(5)
    found = again.model.state_dict()["0.weight"][0, 0].item()
    assert found == pytest.approx(_expected(averaging, 0) * averaging.decay)  # type: ignore[operator]


@pytest.mark.parametrize("decay", [0.999, None])
@pytest.mark.parametrize(
    ("averaged", "current"),
    [
        (torch.tensor([3, 4]), torch.tensor([7, 9])),
        (torch.tensor([False, True]), torch.tensor([True, True])),
    ],
)
def test_what_are_no_fractions_is_copied(
    averaged: Tensor, current: Tensor, decay: float | None
) -> None:
    mine = averaged.clone()
    add_states([mine], [current], 5, decay=decay)
    assert torch.equal(mine, current)


@pytest.mark.parametrize("decay", [0.9, None])
def test_model_with_counters_and_flags_is_averaged(decay: float | None) -> None:
    model = build_model("sprint_s")
    average = Average(Averaging(decay=decay), model, 0)
    for step in (1, 2, 3):
        average.update(step)
    own = model.state_dict()
    found = average.model.state_dict()
    assert all(torch.allclose(found[name].float(), own[name].float()) for name in own)
