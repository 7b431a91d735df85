from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.hardware import seeded
from cifarzoo.training.dropout import Dropout


def _maps(dtype: torch.dtype = torch.float32, layout: torch.memory_format | None = None) -> Tensor:
    maps = torch.ones(16, 33, 15, 13, dtype=dtype)
    return maps if layout is None else maps.contiguous(memory_format=layout)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_drops_its_share_and_scales_the_rest(
    p: float, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    maps = _maps(dtype, layout)
    with seeded(0):
        dropped = Dropout(nn.Dropout(p))(maps)
    share = float((dropped == 0).double().mean())
    error = (p * (1 - p) / maps.numel()) ** 0.5
    assert abs(share - p) < 4 * error + 2**-17
    assert dropped.dtype == dtype
    assert dropped.is_contiguous(memory_format=layout)
    values = set(torch.unique(dropped).tolist())
    assert values == {
        0.0,
        torch.tensor(1 / (1 - p), dtype=dtype).item(),
    }


def test_neighbours_are_dropped_independently() -> None:
    with seeded(1):
        dropped = Dropout(nn.Dropout(0.5))(_maps()).flatten() == 0
    for distance in (1, 2, 3, 4):  # four neighbours share one number of 64 bits
        same = (dropped[distance:] == dropped[:-distance]).double().mean()
        assert abs(float(same) - 0.5) < 4 * 0.5 / dropped.numel() ** 0.5


def test_gradient_goes_where_the_maps_went() -> None:
    maps = _maps().requires_grad_()
    dropped = Dropout(nn.Dropout(0.3))(maps)
    torch.autograd.backward((3 * dropped).sum())
    assert maps.grad is not None
    assert torch.equal(maps.grad, 3 * dropped.detach())


def test_seed_decides_and_another_call_draws_anew() -> None:
    layer = Dropout(nn.Dropout(0.5))
    with seeded(3):
        first, second = layer(_maps()), layer(_maps())
    with seeded(3):
        again = layer(_maps())
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_maps_with_gaps_are_torchs_business() -> None:
    maps = torch.ones(64, 64)[:, ::2]
    with seeded(0):
        found = Dropout(nn.Dropout(0.5))(maps)
    with seeded(0):
        assert torch.equal(found, nn.Dropout(0.5)(maps))


def test_evaluation_mode_drops_nothing() -> None:
    assert torch.equal(Dropout(nn.Dropout(0.5).eval())(_maps()), _maps())


class Other(nn.Dropout):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    "layer",
    [
        Other(0.5),
        nn.Dropout2d(0.5),
        nn.Dropout(0.0),
        nn.Dropout(1.0),
        nn.Dropout(0.5, inplace=True),
    ],
    ids=str,
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    assert not Dropout.fits(layer)
