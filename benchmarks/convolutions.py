"""Compare convolutions of random shapes, as `fit` and `predict` compute them, with float32.

    python benchmarks/convolutions.py [--shapes 2000] [--seed 0]

On CPUs, oneDNN computes some convolutions wrongly in bfloat16 or in channels_last layout, which
`fit` and `predict` choose by themselves; `cifarzoo.safe_convolutions` computes those in another
way. Each shape is one step of `fit` and one call of `predict`, with `precision="auto"`, of a
network of one convolution. Outputs and both gradients have to agree with those of torch in float32
and contiguous layout without oneDNN, up to the rounding of bfloat16. All numbers are positive, so
that no sum cancels.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from interleaved import make_parser, write
from torch import Tensor, nn
from typing_extensions import override

import cifarzoo as zoo

TOLERANCE = 0.02  # of the largest value; rounding to bfloat16 changes a value by up to 0.004
BATCH = 4
CHANNELS = (1, 2, 3, 4, 8, 12, 16, 24, 32, 48)
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 14, 16, 24, 28, 32, 48, 64)


@dataclass(frozen=True)
class Shape:
    """A convolution and the height and width of its input."""

    channels_in: int
    channels: int
    sides: tuple[int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def draw(rng: random.Random) -> Shape:
    """Draw a shape whose output is not empty."""
    while True:
        pair = _same if rng.random() < 0.8 else _independent
        kernel_size = pair(partial(rng.randint, 1, 8))
        stride = pair(partial(rng.choice, (1, 1, 2, 2, 3, 4)))
        if rng.random() < 0.1:
            stride = kernel_size  # patches
        dilation = pair(partial(rng.choice, (1, 1, 1, 2, 3)))
        sides = pair(partial(rng.choice, SIDES))
        padding = pair(partial(rng.choice, (0, 1, 2, kernel_size[0] // 2)))
        channels_in, channels = rng.choice(CHANNELS), rng.choice(CHANNELS)
        groups = rng.choice((1, 1, 1, 2, channels_in))
        if groups == channels_in:
            channels = channels_in * rng.choice((1, 1, 2))
        spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
        fits = all(n + 2 * p >= k for n, p, k in zip(sides, padding, spans, strict=True))
        if fits and channels_in % groups == channels % groups == 0:
            return Shape(
                channels_in, channels, sides, kernel_size, stride, padding, dilation, groups
            )


def _same(value: Callable[[], int]) -> tuple[int, int]:
    chosen = value()
    return chosen, chosen


def _independent(value: Callable[[], int]) -> tuple[int, int]:
    return value(), value()


class Network(nn.Module):
    """A convolution between an offset, which receives the gradient of its input, and a head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(shape.channels_in, *shape.sides))
        options = {key: value for key, value in asdict(shape).items() if key in OPTIONS}
        self.conv = nn.Conv2d(shape.channels_in, shape.channels, bias=False, **options)
        self.conv.weight.data.abs_()
        n = self.conv(self.offset[None]).numel()
        self.register_buffer("head", torch.rand(n, 2) / n)

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.conv(images + self.offset).float().flatten(1) @ self.head
        return logits


OPTIONS = ("kernel_size", "stride", "padding", "dilation", "groups")


def results_of(shape: Shape) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what `fit` and `predict` compute, and what torch computes in float32."""
    torch.manual_seed(0)
    with torch.backends.mkldnn.flags(enabled=False):
        network = Network(shape)
        images = torch.rand(BATCH, shape.channels_in, *shape.sides)
        labels = torch.zeros(BATCH, dtype=torch.int64)
        logits = network(images)
        logits.sum().backward()
        expected = _gradients(network) | {"probabilities": logits.detach().softmax(1)}
    recipe = zoo.Recipe(epochs=1, batch_size=BATCH, lr=1e-9, keep="last")
    loaders = zoo.Loaders([(images, labels)])
    zoo.fit(network, loaders, recipe, loss=lambda logits, _: logits.sum(), progress=False)
    found = _gradients(network)
    predicted = zoo.predict(network, [(images, labels)], precision="auto", progress=False)
    return found | {"probabilities": predicted.probabilities}, expected


def _gradients(network: Network) -> dict[str, Tensor]:
    weight, offset = network.conv.weight.grad, network.offset.grad
    assert weight is not None
    assert offset is not None
    return {"weight gradient": weight.clone(), "input gradient": offset.clone()}


def main() -> None:
    """Compare all shapes, and write results/benchmark-convolutions.json."""
    parser = make_parser(__doc__, "benchmark-convolutions.json")
    parser.add_argument("--shapes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    n = 20 if options.quick else options.shapes
    worst = dict.fromkeys(("weight gradient", "input gradient", "probabilities"), 0.0)
    wrong = []
    for _ in range(n):
        shape = draw(rng)
        found, expected = results_of(shape)
        errors = {
            key: float((found[key] - exact).abs().max() / exact.abs().max().clamp(min=1e-6))
            for key, exact in expected.items()
        }
        worst = {key: max(value, errors[key]) for key, value in worst.items()}
        if not all(error <= TOLERANCE for error in errors.values()):
            wrong.append({**asdict(shape), "errors": errors})
            print(wrong[-1], flush=True)
    print(f"{len(wrong)} of {n} shapes differ from float32; largest errors: {worst}")
    measured = {"seed": options.seed, "shapes": n, "tolerance": TOLERANCE}
    write(options.out, {**measured, "largest_errors": worst, "wrong": wrong})
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
