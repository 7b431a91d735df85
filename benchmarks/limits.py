"""Ratio of the time of a training step to that of its convolutions, and peak rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cifarzoo.device import autocast
from cifarzoo.training.kernels.fuse import fast_layers

CPU = torch.device("cpu")
SIDE = 2048  # of square matrices
COPIED = 2**28  # bytes
REPEATS = 7


def peaks(*, quick: bool = False) -> dict[str, float]:
    """Return GFLOP/s of matrix products by precision, and GB/s of a copy (read and written)."""
    side, n_bytes = (64, 2**20) if quick else (SIDE, COPIED)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.rand(2, side, side).to(dtype)
        seconds = median_seconds(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        found[f"{str(dtype).removeprefix('torch.')}_gflops"] = 2 * side**3 / seconds / 1e9
    source = torch.zeros(n_bytes, dtype=torch.uint8)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = 2 * n_bytes / median_seconds(lambda: target.copy_(source)) / 1e9
    return found


def convolution_seconds(model: nn.Module, images: Tensor, dtype: torch.dtype) -> float:
    """Return the seconds of a step's convolutions alone, forward and backward, as `fit` runs them.

    The gradient of the images themselves is not computed.
    """
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda conv, args: inputs.update({conv: args[0]}))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    model.train()
    with torch.no_grad(), autocast(CPU, dtype, model):
        model(images)
    for hook in hooks:
        hook.remove()
    total = 0.0
    with fast_layers(model, CPU, dtype), autocast(CPU, dtype, model):
        for number, (conv, maps) in enumerate(inputs.items()):
            maps = maps.to(dtype, memory_format=torch.channels_last).requires_grad_(number > 0)
            total += median_seconds(partial(_run, conv, maps, torch.ones_like(conv(maps))))
    return total


def _run(conv: nn.Module, maps: Tensor, grad: Tensor) -> None:
    output = conv(maps)
    if output.requires_grad:
        needed = [each for each in (maps, *conv.parameters()) if each.requires_grad]
        torch.autograd.grad(output, needed, grad)


def median_seconds(function: Callable[[], object]) -> float:
    """Return the median time of several calls after two that are not counted."""
    taken = []
    for _ in range(2 + REPEATS):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:])
