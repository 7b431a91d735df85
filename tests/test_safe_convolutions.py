"""Convolutions that oneDNN computes wrongly agree with float32 in contiguous layout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo import predict
from cifarzoo.device import autocast
from cifarzoo.safe_convolutions import is_safe

CPU = torch.device("cpu")


class Functional(nn.Module):
    """A convolution without a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, 3, 3))

    @override
    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.conv2d(input=maps, weight=self.weight, dilation=3, padding=3)


def _exported(layer: nn.Module, maps: Tensor) -> nn.Module:
    return torch.export.export(layer, (maps,)).module()


def _results(
    layer: nn.Module, maps: Tensor, layout: torch.memory_format, dtype: torch.dtype | None
) -> list[Tensor]:
    """Return the output and the gradients; without a dtype, by torch alone."""
    layer.zero_grad()
    for tensor in layer.parameters():
        if tensor.ndim == 4:
            tensor.data = tensor.data.clone(memory_format=layout)
    layout = layout if maps.ndim == 4 else torch.preserve_format
    maps = maps.clone(memory_format=layout).requires_grad_()
    if dtype is None:
        output = layer(maps)
    else:
        with autocast(CPU, dtype, layer):
            output = layer(maps)
        assert output.dtype == dtype
    torch.autograd.backward(
        (output.float() * torch.linspace(-1, 1, output[0].numel()).view_as(output[:1])).sum()
    )
    assert maps.grad is not None
    return [
        output.detach().float(),
        maps.grad,
        *(p.grad for p in layer.parameters() if p.grad is not None),
    ]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one_pixel": (lambda: nn.Conv2d(16, 64, 8, stride=8), (8, 16, 8, 8)),
    "corrupts_memory": (lambda: nn.Conv2d(16, 16, 8, stride=8, padding=3), (8, 16, 16, 16)),
    "weight_gradient": (lambda: nn.Conv2d(24, 16, 2, stride=2, padding=1), (2, 24, 1, 1)),
    "rectangular": (
        lambda: nn.Conv2d(24, 8, (4, 3), stride=(1, 2), padding=(1, 2)),
        (4, 24, 14, 1),
    ),
    "dilated": (lambda: nn.Conv2d(12, 8, 7, dilation=3, padding=9, groups=2), (5, 12, 64, 64)),
    "dilated_same": (lambda: nn.Conv2d(16, 8, 3, dilation=2, padding="same"), (4, 16, 48, 48)),
    "strided_1x1": (lambda: nn.Conv2d(8, 16, 1, stride=2), (2, 8, 64, 64)),
    "functional": (Functional, (4, 16, 64, 64)),
    "unbatched": (lambda: nn.Conv2d(16, 16, 8, stride=8), (16, 8, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 6, 3, stride=2), (2, 8, 9, 9)),
    "conv1d": (lambda: nn.Conv1d(8, 6, 3, stride=2), (2, 8, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 6, 3, stride=2), (2, 2, 9, 9, 9)),
    "exported": (
        lambda: _exported(nn.Conv2d(16, 64, 8, stride=8), torch.rand(8, 16, 8, 8)),
        (8, 16, 8, 8),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_agree_with_float32_in_contiguous_layout(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer, maps = build(), torch.randn(shape)
    expected = _results(layer, maps, torch.contiguous_format, None)
    found = _results(layer, maps, torch.channels_last, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for ours, exact in zip(found, expected, strict=True):
        assert (ours - exact).abs().max() <= tolerance * exact.abs().max()


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)
def test_scripted_models_are_computed_in_float32() -> None:
    jit: Any = torch.jit
    model = nn.Sequential(nn.Conv2d(3, 64, 8, stride=8), nn.Flatten())
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
    expected = model(images).softmax(1)
    for scripted in (jit.script(model), jit.trace(model, images)):
        found = predict(scripted, [(images, labels)], device="cpu", precision="bfloat16")
        torch.testing.assert_close(found.probabilities, expected)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_usual_convolutions_are_left_to_onednn(kernel_size: int, stride: int) -> None:
    layer = nn.Conv2d(16, 16, kernel_size, stride, padding=kernel_size // 2)
    assert is_safe(torch.rand(2, 16, 8, 8), layer.weight, layer.bias, stride, layer.padding)


def test_a_process_survives_what_corrupts_memory() -> None:
    program = """
import torch, cifarzoo as zoo
from torch import nn
convs = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 8, 8, padding=3)
model = nn.Sequential(*convs, nn.Flatten(), nn.Linear(64, 10))
images, labels = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8), torch.arange(64) % 10
loader = zoo.TensorLoader(images, labels, batch_size=16)
options = {"precision": "bfloat16", "progress": False}
zoo.fit(model, zoo.Loaders(loader, loader), zoo.Recipe(batch_size=16), **options)
print(zoo.evaluate(model, loader, precision="bfloat16").n)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "64\n"


def test_arguments_may_have_any_form_that_torch_accepts() -> None:
    maps, weight = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)
    with autocast(CPU, torch.float32, nn.Module()):
        found = nn.functional.conv2d(maps, weight, None, 2, (3,))
        two: Any = np.int64(2)
        same = nn.functional.conv2d(maps, weight, stride=two, padding=3)
    assert torch.equal(found, same)
    assert torch.equal(found, nn.functional.conv2d(maps, weight, None, 2, 3))


@pytest.mark.slow
def test_compiled_models_are_computed_in_float32() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), nn.BatchNorm2d(32), nn.Flatten())
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
    expected = model.eval()(images).softmax(1)
    found = predict(torch.compile(model), [(images, labels)], device="cpu", precision="bfloat16")
    torch.testing.assert_close(found.probabilities, expected)
