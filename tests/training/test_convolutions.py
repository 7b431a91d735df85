from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.training import convolutions
from cifarzoo.training.convolutions import ActivationName, Convolution, can_fuse_relu

needs_fusion = pytest.mark.skipif(
    not (can_fuse_relu(torch.float32) and can_fuse_relu(torch.bfloat16)),
    reason="this torch fuses no ReLU on this CPU",
)
ACTIVATIONS = ["none", pytest.param("relu", marks=needs_fusion)]


@pytest.fixture(autouse=True)
def packed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of packed rows; this processor counts as one with AMX."""
    shapes: list[tuple[int, ...]] = []
    pack = convolutions._pack

    def noted(maps: Tensor, options: convolutions._Options) -> Tensor:
        rows = pack(maps, options)
        shapes.append(tuple(rows.shape))
        return rows

    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: True)
    monkeypatch.setattr(convolutions, "_pack", noted)
    return shapes


class Plain(nn.Module):
    """The layer as torch computes it, and the ReLU after it."""

    def __init__(self, layer: nn.Conv2d, activation: ActivationName) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.layer(maps)
        return found if self.activation == "none" else found.relu()


def gradients(
    function: Plain | Convolution, layer: nn.Conv2d, maps: Tensor, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Give the output and the gradients of a loss that weights every output differently."""
    maps = maps.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = function(maps)
    assert found.dtype == dtype
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    torch.autograd.backward((found.float() * weights).sum())
    assert maps.grad is not None
    grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return {"output": found.detach().float(), "maps": maps.grad, **grads}


def assert_as_exact(layer: nn.Conv2d, maps: Tensor, activation: ActivationName) -> None:
    """Compare with torch: in float32 closely, in bfloat16 no further off than torch's own."""
    plain = Plain(layer, activation)
    exact = gradients(plain, layer, maps, torch.float32)
    ours = Convolution(layer, activation)
    torch.testing.assert_close(gradients(ours, layer, maps, torch.float32), exact)
    usual = gradients(plain, layer, maps, torch.bfloat16)
    low = gradients(Convolution(layer, activation), layer, maps, torch.bfloat16)
    assert low.keys() == usual.keys()
    for name, value in low.items():
        error, allowed = ((each - exact[name]).norm() for each in (value, usual[name]))
        assert error <= 1.1 * allowed + 1e-3 * exact[name].norm(), name


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("batch", "side"), [(8, 8), (12, 7), (6, 3), (16, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_rows_give_the_same_gradients(
    packed: list[tuple[int, ...]],
    kernel_size: int,
    batch: int,
    side: int,
    bias: bool,
    activation: ActivationName,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 96, kernel_size, padding=kernel_size // 2, bias=bias)
    assert_as_exact(layer, torch.randn(batch, 64, side, side), activation)
    assert len(packed) == 2, "in bfloat16, and neither in float32 nor by torch"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=0),
        nn.Conv2d(64, 64, 3, padding="valid"),
        nn.Conv2d(64, 64, 3, padding="same", dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, (3, 5), padding="same"),
        nn.Conv2d(64, 64, 4, padding=1),
        nn.Conv2d(64, 32, 3, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_computed_as_they_are(
    packed: list[tuple[int, ...]], layer: nn.Conv2d, activation: ActivationName
) -> None:
    torch.manual_seed(0)
    assert Convolution.fits(layer)
    assert_as_exact(layer, torch.randn(4, 64, 8, 8), activation)
    assert not packed


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("stride", [2, (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_gradients_with_strides_are_computed_in_float32(
    monkeypatch: pytest.MonkeyPatch,
    stride: int | tuple[int, int],
    bias: bool,
    activation: ActivationName,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1, groups=64, stride=stride, bias=bias)
    assert_as_exact(layer, torch.randn(4, 64, 8, 8), activation)

    computed: list[torch.dtype] = []
    compute = convolutions._gradients

    def noted(grad: Tensor, *rest: Any) -> Any:  # noqa: ANN401
        computed.append(grad.dtype)
        return compute(grad, *rest)

    monkeypatch.setattr(convolutions, "_gradients", noted)
    gradients(Convolution(layer, activation), layer, torch.randn(4, 64, 8, 8), torch.bfloat16)
    assert computed == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(64, 64, 3, padding=1, groups=32, stride=2),
        nn.Conv2d(64, 128, 3, padding=1, groups=64, stride=2),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(1, 1, 3, padding=1, stride=2),
    ],
    ids=str,
)
def test_gradients_of_other_convolutions_stay_in_bfloat16(layer: nn.Conv2d) -> None:
    assert not Convolution(layer, "none").widens(torch.bfloat16)


def test_wide_maps_and_odd_batches_are_not_packed(packed: list[tuple[int, ...]]) -> None:
    layer = nn.Conv2d(64, 64, 3, padding="same")
    convolution = Convolution(layer, "none")
    assert convolution.packs(torch.bfloat16)
    gradients(convolution, layer, torch.rand(4, 64, 8, 9), torch.bfloat16)
    gradients(convolution, layer, torch.rand(11, 64, 8, 8), torch.bfloat16)
    assert not packed
    gradients(convolution, layer, torch.rand(4, 64, 9, 8), torch.bfloat16)
    assert packed == [(2, 64, 9, 18)] * 2


@pytest.mark.parametrize(("side", "rows"), [(4, (1, 64, 4, 20)), (5, None)])
def test_maps_of_up_to_four_pixels_are_packed_forward_too(
    packed: list[tuple[int, ...]], side: int, rows: tuple[int, ...] | None
) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        Convolution(layer, "none")(torch.rand(4, 64, side, side))
    assert packed == ([] if rows is None else [rows])


@pytest.mark.parametrize("side", [1, 3, 4, 5])
def test_result_may_be_changed_in_place(side: int) -> None:
    torch.manual_seed(0)
    layer, maps = nn.Conv2d(64, 64, 3, padding=1), torch.randn(4, 64, side, side)
    with torch.autocast("cpu", torch.bfloat16):
        found = Convolution(layer, "none")(maps)
        expected = nn.functional.leaky_relu(found.detach(), 0.1)
        torch.autograd.backward(nn.functional.leaky_relu_(found, 0.1).float().sum())
    assert torch.equal(found.detach(), expected)
    assert layer.weight.grad is not None


def test_frozen_weights_and_images_need_no_gradient(packed: list[tuple[int, ...]]) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    convolution, maps = Convolution(layer, "none"), torch.rand(4, 64, 8, 8)
    layer.weight.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        torch.autograd.backward(convolution(maps).float().sum())
        assert layer.weight.grad is None
        assert layer.bias is not None
        assert layer.bias.grad is not None
        with torch.no_grad():
            torch.testing.assert_close(convolution(maps), layer(maps))
    assert not packed


@pytest.mark.parametrize("side", [8, 3])
def test_frozen_weights_pass_the_gradient_on(side: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    layer.weight.requires_grad_(False)
    maps = torch.randn(4, 64, side, side)
    found = gradients(Convolution(layer, "none"), layer, maps, torch.bfloat16)
    usual = gradients(Plain(layer, "none"), layer, maps, torch.bfloat16)
    assert found.keys() == usual.keys() == {"output", "maps", "bias"}
    torch.testing.assert_close(found, usual)


def test_image_without_a_batch_is_torchs(packed: list[tuple[int, ...]]) -> None:
    layer, image = nn.Conv2d(64, 64, 3, padding=1), torch.rand(64, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = Convolution(layer, "none")(image)
        assert torch.equal(found, layer(image))
    torch.autograd.backward(found.float().sum())
    assert not packed


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 4, padding="same"),
        nn.Conv2d(3, 4, 3).double(),
        nn.ConvTranspose2d(3, 4, 3),
        nn.LazyConv2d(4, 3),
        nn.Conv1d(3, 4, 3),
    ],
    ids=str,
)
def test_layers_that_are_not_known_do_not_fit(layer: nn.Module) -> None:
    assert not Convolution.fits(layer)


def test_without_tiles_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    assert not Convolution(layer, "none").packs(torch.float32)
    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: False)
    assert not Convolution(layer, "none").packs(torch.bfloat16)
