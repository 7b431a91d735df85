from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Loaders, Recipe, fit, model_card
from cifarzoo.training import convolutions, fusion
from cifarzoo.training.convolutions import Convolution, can_fuse_relu
from cifarzoo.training.fusion import fused_layers

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_fuse_relu(), reason="this torch fuses no ReLU on a CPU")


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations of the convolutions that were computed in another way than torch's."""
    called: list[str] = []
    compute = Convolution.__call__

    def noted(convolution: Convolution, maps: Tensor) -> Tensor:
        called.append(convolution.activation)
        return compute(convolution, maps)

    monkeypatch.setattr(Convolution, "__call__", noted)
    return called


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
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
    ]
    return nn.Sequential(*layers)


def _outcome(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Give the output, and the gradients of a loss that weights every output differently."""
    model.zero_grad()
    found = model(images)
    torch.autograd.backward((found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum())
    return [found, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def test_same_result_with_fewer_passes(fused: list[str]) -> None:
    model, images = _net(), torch.rand(4, 3, 12, 12)
    expected = _outcome(model, images)
    assert not fused
    with fused_layers(model, CPU, torch.float32):
        found = _outcome(model, images)
    assert fused == ["relu_gated_later", "relu"]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found, expected)
    assert "forward" not in {name for module in model.modules() for name in vars(module)}


def test_pooled_zeros_pass_no_gradient_on() -> None:
    model, images = _net()[:3], torch.rand(4, 3, 12, 12)
    with torch.no_grad():
        model.get_parameter("0.bias").sub_(0.1)
    expected = _outcome(model, images)
    assert 0.2 < (expected[0] == 0).float().mean() < 0.9
    with fused_layers(model, CPU, torch.float32):
        torch.testing.assert_close(_outcome(model, images), expected)


def test_layers_called_by_hand_are_torchs_own(fused: list[str]) -> None:
    model, images = _net(), torch.rand(4, 3, 12, 12)
    expected = model[0](images)
    with fused_layers(model, CPU, torch.float32):
        assert torch.equal(model[0](images), expected)
        assert float(model[0](images).detach().min()) < 0
    assert not fused


def test_layers_with_hooks_are_called_as_ever(fused: list[str]) -> None:
    model, seen = _net(), list[float]()
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.min().item()))
    with fused_layers(model, CPU, torch.float32):
        model(torch.rand(4, 3, 12, 12))
    assert seen
    assert seen[0] < 0
    assert fused == ["relu"]


class OtherReLU(nn.ReLU):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3), nn.GELU()],
        [nn.Conv2d(3, 4, 3), OtherReLU()],
        [nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1), nn.ReLU()],
        [nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)],
    ],
    ids=str,
)
def test_other_sequences_are_left_alone(layers: list[nn.Module]) -> None:
    model = nn.Sequential(*layers)
    with fused_layers(model, CPU, torch.float32):
        assert "forward" not in vars(model)


def test_pool_that_returns_indices_is_left_out(fused: list[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2, return_indices=True))
    with fused_layers(model, CPU, torch.float32):
        values, indices = model(torch.rand(2, 3, 8, 8))
    assert values.shape == indices.shape
    assert fused == ["relu"]


def test_single_image_without_a_batch_is_computed_as_ever(fused: list[str]) -> None:
    model, image = _net()[:3], torch.rand(3, 12, 12)
    expected = model(image)
    with fused_layers(model, CPU, torch.float32):
        assert torch.equal(model(image), expected)
    assert not fused


def test_nothing_is_done_off_the_cpu() -> None:
    model = _net()
    with fused_layers(model, torch.device("meta"), torch.float32):
        assert not any("forward" in vars(module) for module in model.modules())


def test_compiled_model_is_left_to_its_compiler() -> None:
    model = _net()
    with fused_layers(torch.compile(model), CPU, torch.float32):  # type: ignore[arg-type]
        assert not any("forward" in vars(module) for module in model.modules())


def test_error_in_the_block_leaves_the_model_as_it_was() -> None:
    model = _net()
    with pytest.raises(KeyError), fused_layers(model, CPU, torch.float32):
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["report_baseline", "report_model2"])
def test_fit_ends_at_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
    fused: list[str],
    make_loaders: Callable[..., Loaders],
    name: str,
) -> None:
    """Whether layers are fused changes no more than the order of additions does."""
    monkeypatch.setattr(convolutions, "cpu_has_amx", lambda: False)
    torch.manual_seed(0)
    ours = model_card(name).builder(10)
    theirs, recipe = copy.deepcopy(ours), Recipe(epochs=1, lr=0.01)

    def run(model: nn.Module) -> None:
        fit(model, make_loaders(), recipe, device="cpu", precision="float32", progress=False)

    run(ours)
    assert fused
    count = len(fused)
    monkeypatch.setattr(fusion, "can_fuse_relu", lambda: False)
    run(theirs)
    assert len(fused) == count
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-4, rtol=1e-3)
