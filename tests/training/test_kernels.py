"""Values and gradients of the faster layers against torch's own."""

from __future__ import annotations

import copy
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Loaders, Recipe, fit
from cifarzoo.device import seeded
from cifarzoo.errors import NonFiniteLossError
from cifarzoo.recipe import PrecisionName
from cifarzoo.training.kernels import convolutions, fuse
from cifarzoo.training.kernels.convolutions import Activation, Convolution, can_fuse_relu
from cifarzoo.training.kernels.dropout import dropout
from cifarzoo.training.kernels.fuse import fast_layers

CPU = torch.device("cpu")
Forward = Callable[[Tensor], Tensor]
needs_fusion = pytest.mark.skipif(
    not (can_fuse_relu(torch.float32) and can_fuse_relu(torch.bfloat16)),
    reason="this torch fuses no ReLU on this CPU",
)


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of packed rows, as if this processor had AMX."""
    shapes: list[tuple[int, ...]] = []
    pack = convolutions._pack

    def recorded(maps: Tensor, per_row: int, margin: int) -> Tensor:
        rows = pack(maps, per_row, margin)
        shapes.append(tuple(rows.shape))
        return rows

    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: True)
    monkeypatch.setattr(convolutions, "_pack", recorded)
    return shapes


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[Activation]:
    """Activations of the convolutions that were computed by `Convolution`."""
    calls: list[Activation] = []
    compute = Convolution.__call__

    def recorded(convolution: Convolution, maps: Tensor) -> Tensor:
        calls.append(convolution.activation)
        return compute(convolution, maps)

    monkeypatch.setattr(Convolution, "__call__", recorded)
    return calls


def _plain(layer: nn.Conv2d, activation: Activation) -> Forward:
    return lambda maps: layer(maps) if activation == "none" else layer(maps).relu()


def _gradients(
    forward: Forward, layer: nn.Conv2d, maps: Tensor, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the output, and the gradients of a loss that weights every output differently."""
    maps = maps.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = forward(maps)
    assert found.dtype == dtype
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    torch.autograd.backward((found.float() * weights).sum())
    assert maps.grad is not None
    grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return {"output": found.detach().float(), "maps": maps.grad, **grads}


def _assert_exact(layer: nn.Conv2d, maps: Tensor, activation: Activation) -> None:
    """Assert float32 results equal to torch's, and bfloat16 results as accurate as torch's."""
    plain, ours = _plain(layer, activation), Convolution(layer, activation)
    exact = _gradients(plain, layer, maps, torch.float32)
    torch.testing.assert_close(_gradients(ours, layer, maps, torch.float32), exact)
    usual = _gradients(plain, layer, maps, torch.bfloat16)
    found = _gradients(ours, layer, maps, torch.bfloat16)
    assert found.keys() == usual.keys()
    for name, value in found.items():
        error, allowed = ((each - exact[name]).norm() for each in (value, usual[name]))
        assert error <= 1.1 * allowed + 1e-3 * exact[name].norm(), name


@needs_fusion
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("batch", "side"), [(12, 7), (6, 3), (16, 1)])
def test_packed_rows_give_the_same_gradients(
    packed: list[tuple[int, ...]], kernel_size: int, batch: int, side: int, activation: Activation
) -> None:
    layer = nn.Conv2d(64, 96, kernel_size, padding=kernel_size // 2, bias=activation == "none")
    _assert_exact(layer, torch.randn(batch, 64, side, side), activation)
    assert len(packed) == 2, "expected packing in bfloat16 only"


@needs_fusion
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, (3, 5), padding=(1, 2)),
        nn.Conv2d(64, 64, 4, padding=1),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, groups=64, stride=(1, 2), bias=False),
    ],
    ids=str,
)
def test_other_convolutions_are_not_packed_and_give_the_same_gradients(
    packed: list[tuple[int, ...]], layer: nn.Conv2d, activation: Activation
) -> None:
    assert Convolution.supports(layer)
    _assert_exact(layer, torch.randn(4, 64, 8, 8), activation)
    assert not packed


@pytest.mark.parametrize("side", [8, 3])
def test_weights_or_images_may_need_no_gradient(packed: list[tuple[int, ...]], side: int) -> None:
    layer, maps = nn.Conv2d(64, 64, 3, padding=1), torch.randn(4, 64, side, side)
    layer.weight.requires_grad_(False)
    found = _gradients(Convolution(layer), layer, maps, torch.bfloat16)
    usual = _gradients(_plain(layer, "none"), layer, maps, torch.bfloat16)
    assert found.keys() == usual.keys() == {"output", "maps", "bias"}
    torch.testing.assert_close(found, usual)
    layer.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        result = nn.functional.leaky_relu_(Convolution(layer)(maps))  # in-place changes are fine
        torch.autograd.backward(result.float().sum())
    assert layer.weight.grad is not None


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
    )


def _outcome(model: nn.Module, images: Tensor) -> list[Tensor]:
    model.zero_grad()
    found = model(images)
    torch.autograd.backward((found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum())
    return [found, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def _has_own_forward(model: nn.Module) -> bool:
    return any("forward" in vars(module) for module in model.modules())


@needs_fusion
def test_fused_layers_give_the_same_result(fused: list[Activation]) -> None:
    model, images = _net(), torch.rand(4, 3, 12, 12)
    with torch.no_grad():
        model[0].bias.sub_(0.1)  # type: ignore[operator]
    expected = _outcome(model, images)
    assert 0.2 < (model[:3](images) == 0).float().mean() < 0.9, "expected zeros after the pooling"
    with fast_layers(model, CPU, torch.float32):
        found = _outcome(model, images)
    assert fused == ["relu_gated_later", "relu"]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found, expected)
    assert not _has_own_forward(model)


@needs_fusion
def test_layers_with_hooks_are_called_as_usual(fused: list[Activation]) -> None:
    model, lowest = _net(), list[float]()
    model[0].register_forward_hook(
        lambda module, inputs, output: lowest.append(output.min().item())
    )
    with fast_layers(model, CPU, torch.float32):
        model(torch.rand(4, 3, 12, 12))
    assert lowest[0] < 0, "the hook sees the convolution before its ReLU"
    assert fused == ["relu"]


class _OtherReLU(nn.ReLU):
    """A subclass, which may behave differently."""


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), _OtherReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 4, padding="same"), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3).double(), nn.ReLU()),
        nn.Sequential(nn.Dropout2d(0.5), nn.Dropout(0.0), nn.Dropout(0.5, inplace=True)),
        torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
    ],
    ids=lambda model: str(model).replace("\n", " "),
)
def test_other_layers_and_compiled_models_are_left_alone(model: nn.Module) -> None:
    before = [vars(module).get("forward") for module in model.modules()]
    with fast_layers(model, CPU, torch.bfloat16):
        assert [vars(module).get("forward") for module in model.modules()] == before


def test_unusual_inputs_are_computed_by_torch(fused: list[Activation]) -> None:
    model, image = _net()[:3], torch.rand(3, 12, 12)
    expected = model(image)
    with fast_layers(model, CPU, torch.float32):
        assert torch.equal(model(image), expected)
        with pytest.raises(RuntimeError, match=r"same|expected"):
            model(torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert not fused
    bfloat16, disabled = torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)
    with fast_layers(model, CPU, torch.bfloat16), bfloat16, disabled:
        found = model(image[None])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("after", [nn.Dropout(inplace=True), nn.Hardtanh(0, 0.3, inplace=True)])
def test_later_layers_may_change_a_pooled_map_in_place(after: nn.Module) -> None:
    model, images = nn.Sequential(*_net()[:3], after), torch.rand(4, 3, 12, 12)

    def outcome() -> list[Tensor]:
        with seeded(1):
            return _outcome(model, images)

    expected = outcome()
    with fast_layers(model, CPU, torch.float32):
        torch.testing.assert_close(outcome(), expected)


@needs_fusion
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_fit_is_the_same_without_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
    fused: list[Activation],
    make_loaders: Callable[..., Loaders],
    precision: PrecisionName,
    tolerance: float,
) -> None:
    ours = nn.Sequential(_net(), nn.LazyLinear(10))
    ours(torch.rand(1, 3, 32, 32))
    theirs, recipe = copy.deepcopy(ours), Recipe(epochs=1, lr=0.01)

    def run(model: nn.Module) -> int:
        fit(model, make_loaders(), recipe, device="cpu", precision=precision, progress=False)
        return len(fused)

    count = run(ours)
    monkeypatch.setattr(fuse, "_replacements", lambda *_: [])
    assert run(theirs) == count > 0
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=tolerance, rtol=1e-3)


def test_nan_in_validation_images_ends_the_run(make_loaders: Callable[..., Loaders]) -> None:
    """Validation does not use oneDNN's ReLU, which would turn NaN into 0."""
    train, model = make_loaders().train, nn.Sequential(_net(), nn.LazyLinear(10))
    images, labels = next(iter(train))
    model(images)
    loaders = Loaders(train, [(torch.full_like(images, math.nan), labels)])
    with pytest.raises(NonFiniteLossError, match="the validation loss is not finite"):
        fit(model, loaders, Recipe(epochs=1, lr=0.01), device="cpu", progress=False)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ONEDNN_MAX_CPU_ISA is for x86")
def test_bfloat16_runs_where_onednn_rejects_it() -> None:
    """Without AVX-512, torch supports bfloat16 convolutions but oneDNN does not."""
    program = """
import torch
from cifarzoo.training.kernels.fuse import can_fuse_relu, fast_layers
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
with torch.autocast("cpu", torch.bfloat16):
    with fast_layers(model, torch.device("cpu"), torch.bfloat16):
        model(torch.rand(2, 3, 8, 8)).sum().backward()
print(can_fuse_relu(torch.float32), can_fuse_relu(torch.bfloat16))
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


MAPS = torch.ones(16, 33, 15, 13)


@pytest.mark.parametrize("p", [0.1, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_drops_a_fraction_p_and_scales_the_rest(
    p: float, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    dropped = dropout(nn.Dropout(p), MAPS.to(dtype, memory_format=layout))
    share = float((dropped == 0).double().mean())
    assert abs(share - p) < 4 * (p * (1 - p) / MAPS.numel()) ** 0.5 + 2**-17
    assert dropped.is_contiguous(memory_format=layout)
    assert set(dropped.flatten().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}


def test_dropout_is_independent_for_neighbours_and_follows_the_seed() -> None:
    layer, maps = nn.Dropout(0.5), MAPS.clone().requires_grad_()
    with seeded(3):
        first, second = dropout(layer, maps), dropout(layer, maps)
    with seeded(3):
        assert torch.equal(first, dropout(layer, maps))
    dropped = first.flatten() == 0
    for other in (dropped.roll(1), dropped.roll(2), dropped.roll(3), second.flatten() == 0):
        same = (dropped == other).double().mean()  # four neighbours share a random number
        assert abs(float(same) - 0.5) < 4 * 0.5 / dropped.numel() ** 0.5
    torch.autograd.backward((3 * first).sum())
    assert maps.grad is not None
    assert torch.equal(maps.grad, 3 * first.detach())


def test_dropout_is_torchs_for_strided_maps_and_in_evaluation_mode() -> None:
    maps = torch.ones(64, 64)[:, ::2]
    with seeded(0):
        found = dropout(nn.Dropout(0.5), maps)
    with seeded(0):
        assert torch.equal(found, nn.Dropout(0.5)(maps))
    assert torch.equal(dropout(nn.Dropout(0.5).eval(), MAPS), MAPS)
