"""Images per second of loaders that crop and flip, against torchvision's DataLoader.

    python benchmarks/loading.py [--repeats 5]

All return batches of 64, shuffled, float32 in [0, 1] or normalised, with each image shifted by up
to four pixels and flipped at random. Methods take turns, each in its own process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from interleaved import compare, make_parser, medians, ratios, spread, write
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import Compose, v2
from torchvision.transforms import transforms as v1

import cifarzoo as zoo

BATCH_SIZE = 64
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
OURS = "TensorLoader"
BARE = "bare gather and cast"
PEER = "DataLoader, v1 transforms, 2 workers"
METHODS = (
    PEER,
    "DataLoader, v1 transforms, 0 workers",
    "DataLoader, v2 transforms, 2 workers",
    "kornia, batches in memory",
    BARE,
    OURS,
)


def per_image(root: Path, method: str) -> Iterable[object]:
    """Return torchvision's loader, which decodes and augments images one by one."""
    if "v1" in method:
        to_float = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
        steps = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip(), *to_float]
    else:
        to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), *to_float]
    workers = 2 if "2 workers" in method else 0
    return DataLoader(
        CIFAR10(str(root), train=True, transform=Compose(steps)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=bool(workers),
    )


class Gathered:
    """Batches gathered from one tensor, cast to float and augmented."""

    def __init__(self, images: Tensor, labels: Tensor, augment: torch.nn.Module) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __iter__(self) -> Iterator[object]:
        for indices in torch.split(torch.randperm(len(self.images)), BATCH_SIZE):
            images = self.images.index_select(0, indices).float().div_(255)
            yield self.augment(images), self.labels.index_select(0, indices)


def make_loader(method: str, root: Path) -> Iterable[object]:
    """Return one of the loaders."""
    if method.startswith("DataLoader"):
        return per_image(root, method)
    augmentation = zoo.Augmentation(flip="random", translate=4)
    ours = zoo.cifar10_loaders(
        BATCH_SIZE, root=root, val_fraction=0, augmentation=augmentation, download=False
    ).train
    if method == OURS:
        return ours
    if method == BARE:
        return Gathered(ours.images, ours.labels, torch.nn.Identity())
    from kornia.augmentation import RandomCrop as Crop
    from kornia.augmentation import RandomHorizontalFlip as Flip

    augment = torch.nn.Sequential(Crop((32, 32), padding=4), Flip())
    return Gathered(ours.images.contiguous(), ours.labels, augment)


def measure(method: str, root: Path, batches: int | None) -> float:
    """Return images per second over one epoch, excluding worker start-up and a warm-up."""
    loader = make_loader(method, root)
    for _ in islice(loader, 20):
        pass
    rest = islice(loader, batches)
    next(rest)
    began = time.perf_counter()
    count = sum(1 for _ in rest)
    return count * BATCH_SIZE / (time.perf_counter() - began)


def main() -> None:
    """Measure, print a table, and write results/benchmark-loading.json."""
    options = make_parser(__doc__, "benchmark-loading.json").parse_args()
    if options.measure:
        print(measure(options.measure, options.data, 20 if options.quick else None))
        return
    found = compare(__file__, METHODS, options, "images/s")
    to_peer = ratios(found, PEER)
    for method, values in found.items():
        print(f"{method:38} {spread(values)} images/s")
    for method, values in to_peer.items():
        print(f"{method:38} {spread(values)} times {PEER}")
    measured = {"images_per_second": found, "ratios": to_peer, "median_ratio": medians(to_peer)}
    write(options.out, {**measured, "peer": PEER})


if __name__ == "__main__":
    main()
