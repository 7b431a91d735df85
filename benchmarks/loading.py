"""Images per second of loaders that crop and flip, against torchvision's DataLoader.

    python benchmarks/loading.py [--repeats 5]

All give batches of 64, shuffled, float32 in [0, 1] or normalised, each image shifted by up to four
pixels and mirrored or not. Every way runs in a process of its own, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from interleaved import Speeds, compare, parser_of, ratios, spread, write
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    ToTensor,
    v2,
)

import cifarzoo as zoo

BATCH_SIZE = 64
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
OURS = "TensorLoader"
BARE = "bare gather and cast"
PEER = "DataLoader, v1 transforms, 2 workers"
WAYS = (
    PEER,
    "DataLoader, v1 transforms, 0 workers",
    "DataLoader, v2 transforms, 2 workers",
    "kornia, batches in memory",
    BARE,
    OURS,
)


def per_image(root: Path, way: str) -> Iterable[object]:
    """Build torchvision's loader: images are decoded and changed one by one, in processes."""
    crop, flip = (
        (RandomCrop, RandomHorizontalFlip)
        if "v1" in way
        else (v2.RandomCrop, v2.RandomHorizontalFlip)
    )
    to_float = (
        [ToTensor()] if "v1" in way else [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    normalise = (Normalize if "v1" in way else v2.Normalize)(MEAN, STD)
    transform = Compose([crop(32, padding=4), flip(), *to_float, normalise])
    workers = 2 if "2 workers" in way else 0
    return DataLoader(
        CIFAR10(str(root), train=True, transform=transform),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=bool(workers),
    )


class Gathered:
    """Batches from one tensor: gathered, cast, and changed by `change`."""

    def __init__(self, images: Tensor, labels: Tensor, change: torch.nn.Module) -> None:
        self.images, self.labels, self.change = images, labels, change

    def __iter__(self) -> Iterator[object]:
        for indices in torch.split(torch.randperm(len(self.images)), BATCH_SIZE):
            images = self.images.index_select(0, indices).float().div_(255)
            yield self.change(images), self.labels.index_select(0, indices)


def loader_of(way: str, root: Path) -> Iterable[object]:
    """Build one of the loaders."""
    if way.startswith("DataLoader"):
        return per_image(root, way)
    augmentation = zoo.Augmentation(flip="random", translate=4)
    ours = zoo.cifar10_loaders(
        BATCH_SIZE, root=root, val_fraction=0, augmentation=augmentation, download=False
    ).train
    assert isinstance(ours, zoo.TensorLoader)
    if way == OURS:
        return ours
    if way == BARE:
        return Gathered(ours.images, ours.labels, torch.nn.Identity())
    from kornia.augmentation import RandomCrop as Crop
    from kornia.augmentation import RandomHorizontalFlip as Flip

    change = torch.nn.Sequential(Crop((32, 32), padding=4), Flip())
    return Gathered(ours.images.contiguous(), ours.labels, change)


def measure(way: str, root: Path) -> float:
    """Give images per second over one epoch, the workers' start and a first pass not counted."""
    loader = loader_of(way, root)
    for _ in islice(loader, 20):
        pass
    batches = iter(loader)
    next(batches)
    began, count = time.perf_counter(), 0
    for count, _ in enumerate(batches, 1):  # noqa: B007
        pass
    return count * BATCH_SIZE / (time.perf_counter() - began)


def table(found: Speeds) -> str:
    """Write the medians and the ratios."""
    to_peer = ratios(found, PEER)
    lines = [f"{way:38} {spread(values)} images/s" for way, values in found.items()]
    lines += [f"{way:38} {spread(values)} times {PEER}" for way, values in to_peer.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write results/benchmark-loading.json."""
    options = parser_of(__doc__, "benchmark-loading.json").parse_args()
    if options.measure:
        print(measure(options.measure, options.data))
        return
    found = compare(
        __file__, WAYS, ["--data", str(options.data)], repeats=options.repeats, unit="images/s"
    )
    to_peer = ratios(found, PEER)
    medians = {way: statistics.median(values) for way, values in to_peer.items()}
    write(
        options.out,
        {"images_per_second": found, "ratios": to_peer, "median_ratio": medians, "peer": PEER},
    )
    print(table(found))


if __name__ == "__main__":
    main()
