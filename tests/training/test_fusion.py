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

from cifarzoo import Callback, Check, Loaders, NonFiniteLossError, Recipe, fit, model_card
from cifarzoo.hardware import seeded
from cifarzoo.training import convolutions, fusion
from cifarzoo.training.convolutions import Convolution, can_fuse_relu
from cifarzoo.training.fusion import fused_layers

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not can_fuse_relu(torch.float32), reason="this torch fuses no ReLU on this CPU"
)


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


def test_depthwise_convolutions_with_strides_are_taken_in_bfloat16(fused: list[str]) -> None:
    torch.manual_seed(0)
    strided = nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), strided)
    images = torch.rand(4, 8, 12, 12)
    with fused_layers(model, CPU, torch.float32):
        model(images)
    assert not fused
    with fused_layers(model, CPU, torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        assert "forward" in vars(strided)
        assert "forward" not in vars(model[0])
        model(images)
    assert fused == ["none"]


def test_dropout_is_drawn_by_the_same_seed_in_every_step() -> None:
    model, images = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), torch.ones(4, 3, 12, 12)
    found = []
    for _ in range(2):
        with seeded(0), fused_layers(model, CPU, torch.float32):
            assert "forward" in vars(model[1])
            found.append(model(images))
    assert torch.equal(*found)
    assert 0.3 < (found[0] == 0).float().mean() < 0.7
    assert "forward" not in vars(model[1])


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
    monkeypatch.setattr(fusion, "can_fuse_relu", lambda dtype: False)
    run(theirs)
    assert len(fused) == count
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "after", [nn.Dropout(inplace=True), nn.Hardtanh(0, 0.3, inplace=True)], ids=str
)
def test_what_follows_a_pooling_may_change_it_in_place(after: nn.Module, fused: list[str]) -> None:
    def outcome() -> list[Tensor]:
        torch.manual_seed(1)
        return _outcome(nn.Sequential(*model, after), images)

    model, images = _net()[:3], torch.rand(4, 3, 12, 12)
    expected = outcome()
    with fused_layers(model, CPU, torch.float32):
        found = outcome()
        changed = model(images)
        changed += 1
        torch.autograd.backward(changed.sum())
    torch.testing.assert_close(found, expected)
    assert fused


def test_autocast_that_is_off_in_a_part_of_the_model_stays_off(fused: list[str]) -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.careful, self.head = _net()[:3], nn.Linear(8 * 36, 2)

        def forward(self, images: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                maps = self.careful(images)
            assert maps.dtype == torch.float32
            logits: Tensor = self.head(maps.flatten(1))
            return logits

    model, images = Careful(), torch.rand(4, 3, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        expected = _outcome(model, images)
        with fused_layers(model, CPU, torch.bfloat16):
            found = _outcome(model, images)
    assert fused
    torch.testing.assert_close(found, expected)


def test_maps_of_another_type_are_refused_as_ever() -> None:
    model = _net()[:3]
    with (
        fused_layers(model, CPU, torch.float32),
        pytest.raises(RuntimeError, match=r"same|expected"),
    ):
        model(torch.rand(2, 3, 8, 8, dtype=torch.float64))


def test_layer_with_a_forward_of_its_own_keeps_it(fused: list[str]) -> None:
    model, images = _net()[:2], torch.rand(2, 3, 8, 8)
    model[0].forward = torch.zeros_like
    with fused_layers(model, CPU, torch.float32):
        assert not model(images).any()
    assert model[0].forward is torch.zeros_like
    assert not fused


def test_hooks_on_every_module_see_every_layer(fused: list[str]) -> None:
    seen = list[str]()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(type(module).__name__)
    )
    try:
        model = _net()[:3]
        with fused_layers(model, CPU, torch.float32):
            model(torch.rand(2, 3, 8, 8))
    finally:
        handle.remove()
    assert seen == ["Conv2d", "ReLU", "MaxPool2d", "Sequential"]
    assert not fused


def test_model_that_compiles_itself_is_left_to_its_compiler() -> None:
    model = _net()
    model.compile()
    with fused_layers(model, CPU, torch.float32):
        assert not any("forward" in vars(module) for module in model.modules())


class _Copies(Callback):
    """Keep a copy of the model at every check, as weight averaging would."""

    def __init__(self) -> None:
        self.copies: list[nn.Module] = []

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self._model = model

    def on_check(self, check: Check) -> None:
        self.copies.append(copy.deepcopy(self._model))


def test_nobody_but_the_training_step_sees_changed_layers(
    make_loaders: Callable[..., Loaders], fused: list[str]
) -> None:
    model, callback = model_card("report_baseline").builder(10), _Copies()
    recipe, loaders = Recipe(epochs=1), make_loaders()
    fit(
        model,
        loaders,
        recipe,
        device="cpu",
        precision="bfloat16",
        progress=False,
        callbacks=[callback],
    )
    (copied,) = callback.copies
    assert fused
    assert not any("forward" in vars(module) for module in copied.modules())
    images, _ = next(iter(loaders.train))
    assert copied(images).dtype == torch.float32


def test_nan_in_validation_images_ends_the_run(make_loaders: Callable[..., Loaders]) -> None:
    """oneDNN's ReLU would turn it into 0, so no image is scored with it."""
    train, torch_model = make_loaders().train, _net().append(nn.LazyLinear(10))
    images, labels = next(iter(train))
    torch_model(images)
    loaders = Loaders(train, [(torch.full_like(images, math.nan), labels)])
    with pytest.raises(NonFiniteLossError, match="the validation loss is not finite"):
        fit(
            torch_model,
            loaders,
            Recipe(epochs=1, lr=0.01),
            device="cpu",
            precision="float32",
            progress=False,
        )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ONEDNN_MAX_CPU_ISA is for x86")
def test_bfloat16_runs_where_onednn_refuses_it() -> None:
    """On a processor without AVX-512 torch has convolutions in bfloat16, oneDNN has none."""
    program = (
        "import torch, cifarzoo as zoo\n"
        "from cifarzoo.training.convolutions import can_fuse_relu\n"
        "loaders = zoo.shapes_loaders(16, n_train=32, n_test=16, val_fraction=0)\n"
        "model = zoo.build_model('report_baseline')\n"
        "zoo.fit(model, loaders, zoo.Recipe(epochs=1, keep='last'), device='cpu',"
        " precision='bfloat16', progress=False)\n"
        "print(can_fuse_relu(torch.float32), can_fuse_relu(torch.bfloat16))\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
