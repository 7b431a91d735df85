"""Weight averages against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Averaging
from cifarzoo.training.averaging import Average

VALUES = [1.0, 4.0, -2.0, 8.0]


def _average(averaging: Averaging | None, start: int = 0) -> tuple[nn.Module, Average]:
    """Average a network whose weights and running mean take one value after another."""
    net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    average = Average(averaging, net, start)
    for step, value in enumerate(VALUES, 1):
        with torch.no_grad():
            for tensor in (*net.parameters(), net[1].running_mean):
                assert isinstance(tensor, Tensor)
                tensor.fill_(value)
        net[1].num_batches_tracked = torch.tensor(step)
        average.update(step)
    return net, average


@pytest.mark.parametrize("decay", [0.2, 0.9, None])
@pytest.mark.parametrize("start", [0, 2, 3])
def test_average_covers_the_states_after_the_start(decay: float | None, start: int) -> None:
    net, average = _average(Averaging(decay=decay), start)
    values = VALUES[start:]
    expected = sum(values) / len(values)
    if decay is not None:
        expected = values[0]
        for count, value in enumerate(values[1:], 1):
            limit = min(decay, (1 + count) / (10 + count))
            expected = limit * expected + (1 - limit) * value
    for name, tensor in average.model.state_dict().items():
        if name == "1.num_batches_tracked":
            assert tensor.item() == len(VALUES)  # counters are copied
        elif name != "1.running_var":
            assert tensor.flatten()[0].item() == pytest.approx(expected), name
    assert next(net.parameters()).flatten()[0].item() == VALUES[-1]


def test_average_is_the_model_itself_before_the_start_or_if_disabled() -> None:
    for averaging in (Averaging(), None):
        net, average = _average(averaging, start=len(VALUES))
        assert average.model is net


def test_average_resumes_from_its_state() -> None:
    net, whole = _average(Averaging(decay=0.1))
    resumed = Average(Averaging(decay=0.1), net, 0)
    resumed.load_state_dict(whole.state_dict())
    with torch.no_grad():
        net.get_parameter("0.weight").zero_()
    for average in (whole, resumed):
        average.update(5)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict())
