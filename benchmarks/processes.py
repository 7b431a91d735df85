"""Speed of training one model with several processes on one processor.

    python benchmarks/processes.py [--repeats 3]

Images per second of `fit` with one process of one thread, one process of two threads, and two
processes of one thread each, started by `torchrun`; float32, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from interleaved import compare, make_parser, ratios, spread, write
from torch import distributed

import cifarzoo as zoo
from cifarzoo.training.distributed import process_group

BATCH_SIZE = 256
IMAGES = {"report_baseline": 20_480, "resnet20": 10_240, "sprint_m": 5_120}
METHODS = {
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes, one thread each": (2, 1),
}


def images_per_second(data: Path, name: str, threads: int, images: int) -> float:
    """Return the speed of this process, or of all processes of its group together."""
    torch.set_num_threads(threads)
    speed, fit = 0.0, partial(zoo.fit, device="cpu", precision="float32", progress=False)
    with process_group("cpu"):
        train = zoo.cifar10_loaders(BATCH_SIZE, root=data, download=False).train
        recipe = zoo.Recipe(epochs=1, batch_size=BATCH_SIZE, lr=0.01, keep="last")
        for n in (2 * BATCH_SIZE, images):  # the first call warms up
            model, part = zoo.build_model(name), zoo.Loaders(train.first(n))
            speed = n / fit(model, part, recipe).seconds
    return speed


def measure(options: argparse.Namespace) -> str:
    """Measure one method, in this process or in several that `torchrun` starts."""
    name, _, method = options.measure.partition(":")
    processes, threads = METHODS[method]
    if processes == 1 or distributed.is_torchelastic_launched():
        images = 2 * BATCH_SIZE if options.quick else IMAGES[name]
        return str(images_per_second(options.data, name, threads, images))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    itself = (__file__, *sys.argv[1:])
    command = (*torchrun, f"--nproc-per-node={processes}", *itself)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1]


def main() -> None:
    """Measure, print a table, and write results/benchmark-processes.json."""
    options = make_parser(__doc__, "benchmark-processes.json", repeats=3).parse_args()
    if options.measure:
        print(measure(options))
        return
    networks: dict[str, object] = {}
    for name in IMAGES:
        listed = compare(__file__, [f"{name}:{method}" for method in METHODS], options, "images/s")
        found = dict(zip(METHODS, listed.values(), strict=True))
        one, *others = found
        to_one = ratios(found, one)
        print(f"{name}: {one}: {spread(found[one], 0)} images/s")
        for method in others:
            print(f"{name}: {method}: {spread(to_one[method])} times that")
        params = zoo.count_params(zoo.build_model(name))
        networks[name] = {"params": params, "images_per_second": found}
    write(options.out, {"batch_size": BATCH_SIZE, "networks": networks, "precision": "float32"})


if __name__ == "__main__":
    main()
