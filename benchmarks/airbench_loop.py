"""A plain implementation of airbench94_muon: the peer of `sprint_m`.

Source: Jordan 2024, arXiv 2404.00498, and github.com/KellerJordan/cifar10-airbench, with the same
settings: eight epochs in batches of 2,000, network and images in half precision, each epoch's
images cropped before its first batch, Muon for the filters and SGD for the rest. On a GPU the
network is compiled and computes in float16, as in the source; on a CPU it is not compiled, since
that makes it slower, and computes in bfloat16 where that is faster, and in float32 elsewhere.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.datasets import CIFAR10
from typing_extensions import override

from cifarzoo.device import resolve_precision

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WIDTHS = (24, 64, 256, 256)
EPOCHS, BATCH_SIZE, WHITEN_BIAS_EPOCHS = 8, 2000, 3
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
DECAY = 2e-6 * BATCH_SIZE
LABEL_SMOOTHING, TRANSLATE = 0.2, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds of training, and test accuracies with one view and with six."""

    seconds: float
    single_view: float
    six_views: float


class Muon(torch.optim.Optimizer):
    """SGD with momentum orthogonalized by three Newton-Schulz steps; filters keep their norm."""

    def __init__(self, filters: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(filters, {"lr": lr, "momentum": momentum})
        self._orthogonal = compiled() if filters[0].device.type == "cuda" else orthogonal

    @override
    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Update the filters."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(velocity, alpha=group["momentum"]).flatten(1)
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(self._orthogonal(update).view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors, and singular values near 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.bfloat16()
    found = found / (found.norm() + 1e-7)
    found = found.T if tall else found
    for _ in range(3):
        square = found @ found.T
        found = 3.4445 * found + (-4.7750 * square + 2.0315 * square @ square) @ found
    result: Tensor = found.T if tall else found
    return result


@functools.cache
def compiled() -> Callable[[Tensor], Tensor]:
    """Return `orthogonal`, compiled once per process."""
    found: Callable[[Tensor], Tensor] = torch.compile(orthogonal)
    return found


def conv(channels_in: int, channels: int) -> nn.Conv2d:
    """Return a 3×3 convolution that starts as the identity."""
    layer = nn.Conv2d(channels_in, channels, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:channels_in])
    return layer


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm with a fixed scale and quickly updated statistics."""
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


class Network(nn.Module):
    """A whitening layer, three groups of two convolutions, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, WIDTHS[0], 2)
        self.whiten.weight.requires_grad = False
        layers: list[nn.Module] = [nn.GELU()]
        for before, after in pairwise(WIDTHS):
            layers += [conv(before, after), nn.MaxPool2d(2), norm(after), nn.GELU()]
            layers += [conv(after, after), norm(after), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    @torch.no_grad()
    def whiten_by(self, images: Tensor) -> None:
        """Compute the first layer's filters from the patches of images."""
        patches = functional.unfold(images.float(), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))

    @override
    def forward(self, images: Tensor, *, whiten_bias: bool = True) -> Tensor:
        """Return logits (N,10) of normalised images (N,3,32,32)."""
        bias = self.whiten.bias if whiten_bias else self.whiten.bias.detach()  # type: ignore[union-attr]
        maps = self.layers(functional.conv2d(images, self.whiten.weight, bias))
        logits: Tensor = self.head(maps) / WIDTHS[-1]
        return logits


def load(
    root: Path, *, train: bool, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return all images, normalised, and their labels."""
    data = CIFAR10(str(root), train=train)
    pixels = torch.from_numpy(data.data).to(device).permute(0, 3, 1, 2).to(dtype) / 255
    mean, std = (torch.tensor(x, device=device, dtype=dtype).view(1, 3, 1, 1) for x in (MEAN, STD))
    images = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
    return images, torch.tensor(data.targets, device=device)


class Epochs:
    """Augmented epochs: images flipped in every other epoch, and cropped at random."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        coin = torch.rand(len(images), device=images.device) < 0.5
        flipped = torch.where(coin.view(-1, 1, 1, 1), images.flip(-1), images)
        self.padded = functional.pad(flipped, (TRANSLATE,) * 4, mode="reflect")
        self.labels = labels
        self.size = images.shape[-1]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Crop all images of an epoch, then yield full batches."""
        n, device = len(self.labels), self.labels.device
        images = self.padded.new_empty(n, 3, self.size, self.size)
        shift = torch.randint(2 * TRANSLATE + 1, (n, 2), device=device)
        for y in range(2 * TRANSLATE + 1):
            for x in range(2 * TRANSLATE + 1):
                here = (shift[:, 0] == y) & (shift[:, 1] == x)
                images[here] = self.padded[here, :, y : y + self.size, x : x + self.size]
        if epoch % 2:
            images = images.flip(-1)
        order = torch.randperm(n, device=device)
        for indices in torch.split(order[: n // BATCH_SIZE * BATCH_SIZE], BATCH_SIZE):
            yield images[indices], self.labels[indices]


def make_optimizers(network: Network) -> tuple[torch.optim.Optimizer, ...]:
    """Return SGD for the whitening bias (its first group), norms and head, and Muon for filters."""
    filters = [w for w in network.layers.parameters() if w.ndim == 4]
    biases = [m.bias for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    rates = ((network.whiten.bias, BIAS_LR), (biases, BIAS_LR), (network.head.weight, HEAD_LR))
    groups = [
        {"params": params, "lr": lr, "weight_decay": DECAY / lr, "initial_lr": lr}
        for params, lr in rates
    ]
    rest = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=True)
    muon = Muon(filters, lr=FILTER_LR, momentum=0.6)
    muon.param_groups[0]["initial_lr"] = FILTER_LR
    return rest, muon


@torch.no_grad()
def score(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracies with one view and with six: flipped, and shifted by one pixel."""

    def both(views: Tensor) -> Tensor:
        # Halve each at once: a compiled network's next call overwrites its result.
        logits: Tensor = 0.5 * network(views) + 0.5 * network(views.flip(-1))
        return logits

    one, six = 0, 0
    for part, true in zip(
        torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True
    ):
        padded = functional.pad(part, (1,) * 4, mode="reflect")
        shifted = (both(padded[..., :32, :32]) + both(padded[..., 2:, 2:])) / 2
        one += int((network(part).argmax(1) == true).sum())
        six += int(((both(part) + shifted).argmax(1) == true).sum())
    return one / len(labels), six / len(labels)


def seconds_now(device: torch.device) -> float:
    """Read the clock after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def train_once(
    root: Path, *, seed: int, device: torch.device, epochs: int = EPOCHS, limit: int | None = None
) -> Outcome:
    """Train once and score; the time is that of training, from images in memory.

    On a GPU, a shorter run goes first to compile both graphs of the network: that of the first
    epochs, and that with the whitening bias frozen. `limit` is the number of training and of test
    images; None for all.
    """
    torch.manual_seed(seed)
    on_gpu = device.type == "cuda"
    dtype = torch.float16 if on_gpu else resolve_precision("auto", device)
    images, labels = (x[:limit] for x in load(root, train=True, device=device, dtype=dtype))
    network = Network().to(device, dtype).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    model: nn.Module = network
    if on_gpu:
        model = torch.compile(network, mode="max-autotune")  # type: ignore[assignment]
        fresh = copy.deepcopy(network.state_dict())
        train(network, model, images, labels, epochs=WHITEN_BIAS_EPOCHS + 1)
        network.load_state_dict(fresh)
    began = seconds_now(device)
    train(network, model, images, labels, epochs=epochs)
    seconds = seconds_now(device) - began
    model.eval()
    test = (x[:limit] for x in load(root, train=False, device=device, dtype=dtype))
    one, six = score(model, *test)
    return Outcome(seconds, one, six)


def train(
    network: Network, model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int
) -> None:
    """Train from scratch; `model` is the network or its compiled form."""
    model.train()
    rest, muon = make_optimizers(network)
    network.whiten_by(images[:5000])
    source = Epochs(images, labels)
    per_epoch = len(images) // BATCH_SIZE
    steps, bias_steps = epochs * per_epoch, math.ceil(WHITEN_BIAS_EPOCHS * per_epoch)
    step = 0
    for epoch in range(epochs):
        for views, true in source.batches(epoch):
            for group in (*rest.param_groups, *muon.param_groups):
                last = bias_steps if group is rest.param_groups[0] else steps
                group["lr"] = group["initial_lr"] * max(0.0, 1 - step / last)
            logits = model(views, whiten_bias=step < bias_steps)
            loss = functional.cross_entropy(
                logits, true, label_smoothing=LABEL_SMOOTHING, reduction="sum"
            )
            loss.backward()  # type: ignore[no-untyped-call]
            rest.step()
            muon.step()
            model.zero_grad(set_to_none=True)
            step += 1
