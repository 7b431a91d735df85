from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Layout, Loaders, Recipe, fit, report_model
from cifarzoo.training import convolutions
from cifarzoo.training.convolutions import packed_convolutions

CPU = torch.device("cpu")


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the maps that were packed; this processor counts as one with AMX."""
    shapes: list[tuple[int, ...]] = []
    pack = convolutions._pack

    def noted(maps: Tensor, per_row: int, margin: int) -> Tensor:
        rows = pack(maps, per_row, margin)
        shapes.append(tuple(rows.shape))
        return rows

    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: True)
    monkeypatch.setattr(convolutions, "_pack", noted)
    return shapes


def _gradients(layer: nn.Conv2d, maps: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Give the layer's output and gradients for a loss that weights every output differently."""
    maps = maps.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = layer(maps)
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    torch.autograd.backward((found.float() * weights).sum())
    grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    assert maps.grad is not None
    return {"output": found.detach().float(), "maps": maps.grad, **grads}


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("batch", "side"), [(8, 8), (12, 7), (6, 3), (16, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_rows_give_the_same_gradients(
    packed: list[tuple[int, ...]], kernel_size: int, batch: int, side: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 96, kernel_size, padding=kernel_size // 2, bias=bias)
    maps = torch.randn(batch, 64, side, side)
    exact = _gradients(layer, maps, torch.float32)
    with packed_convolutions(layer, CPU, torch.bfloat16):
        found = _gradients(layer, maps, torch.bfloat16)
    assert len(packed) == 2
    plain = _gradients(layer, maps, torch.bfloat16)
    assert len(packed) == 2, "outside of the block nothing is packed"
    assert found.keys() == plain.keys() == exact.keys()
    for name, value in found.items():
        error, usual = ((each - exact[name]).norm() for each in (value, plain[name]))
        assert error <= 1.1 * usual + 1e-3 * exact[name].norm(), name


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=0),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, (3, 5), padding=(1, 2)),
        nn.Conv2d(32, 64, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(packed: list[tuple[int, ...]], layer: nn.Conv2d) -> None:
    with packed_convolutions(layer, CPU, torch.bfloat16):
        assert "forward" not in vars(layer)


def test_wide_maps_and_odd_batches_are_not_packed(packed: list[tuple[int, ...]]) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    with packed_convolutions(layer, CPU, torch.bfloat16):
        _gradients(layer, torch.rand(4, 64, 8, 9), torch.bfloat16)
        _gradients(layer, torch.rand(11, 64, 8, 8), torch.bfloat16)
        with torch.no_grad():
            layer(torch.rand(4, 64, 8, 8))
        assert not packed
        _gradients(layer, torch.rand(4, 64, 9, 8), torch.bfloat16)
    assert packed == [(1, 64, 9, 36)] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: dtype == torch.float32)
    with packed_convolutions(layer, CPU, dtype):
        assert "forward" not in vars(layer)


def test_fit_packs_and_leaves_the_model_as_it_was(
    packed: list[tuple[int, ...]], make_loaders: Callable[..., Loaders]
) -> None:
    torch.manual_seed(0)
    model = report_model(Layout(filters=(64, 64, 64), kernel_size=3, hidden=(8,)))
    recipe = Recipe(epochs=1, batch_size=8)
    history = fit(
        model, make_loaders(n_train=16), recipe, device="cpu", precision="bfloat16", progress=False
    )
    assert history.steps == 2
    assert {shape[2] for shape in packed} == {8}
    assert not any("forward" in vars(layer) for layer in model.modules())
