"""What several processes that train one model gain on a processor, and what they would gain beyond.

    python benchmarks/processes.py [--repeats 3]

Images per second of `fit` with one process of one thread, one process of two, and two processes of
one thread each, which `torchrun` starts; float32, in turns.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from interleaved import compare, parser_of, ratios, spread, write

import cifarzoo as zoo
from cifarzoo.processes import is_launched, joined

BATCH_SIZE = 256
IMAGES = {"report_baseline": 20_480, "resnet20": 10_240, "sprint_m": 5_120}
WAYS = {
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes, one thread each": (2, 1),
}


def images_per_second(data: Path, name: str, threads: int) -> float:
    """Give the speed of this process, or of all that work together with it."""
    torch.set_num_threads(threads)
    with joined("cpu"):
        loaders = zoo.cifar10_loaders(BATCH_SIZE, root=data, download=False)
        recipe = zoo.Recipe(epochs=1, batch_size=BATCH_SIZE, lr=0.01, keep="last")
        speeds = []
        for images in (2 * BATCH_SIZE, IMAGES[name]):  # the first ones warm up
            model = zoo.build_model(name)
            part = zoo.Loaders(loaders.train.first(images))
            history = zoo.fit(
                model, part, recipe, device="cpu", precision="float32", progress=False
            )
            speeds.append(images / history.seconds)
    return speeds[-1]


def measured(data: Path, name: str, way: str) -> str:
    """Measure one way, in as many new processes as it takes."""
    processes, threads = WAYS[way]
    if processes == 1 or is_launched():
        return str(images_per_second(data, name, threads))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    itself = (__file__, "--data", str(data), "--measure", f"{name}:{way}")
    done = subprocess.run(
        (*torchrun, f"--nproc-per-node={processes}", *itself),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.split()[-1]


def main() -> None:
    """Measure, print a table, and write results/benchmark-processes.json."""
    options = parser_of(__doc__, "benchmark-processes.json", repeats=3).parse_args()
    if options.measure:
        name, _, way = options.measure.partition(":")
        print(measured(options.data, name, way))
        return
    speeds: dict[str, object] = {}
    for name in IMAGES:
        listed = [f"{name}:{way}" for way in WAYS]
        passed_on = ["--data", str(options.data)]
        found = compare(__file__, listed, passed_on, repeats=options.repeats, unit="images/s")
        one, *others = found
        to_one = ratios(found, one)
        print(f"{one:50} {spread(found[one], 0)} images/s")
        for way in others:
            print(f"{way:50} {spread(to_one[way])} times that")
        speeds[name] = {
            "params": zoo.count_params(zoo.build_model(name)),
            "images_per_second": {way.partition(":")[2]: values for way, values in found.items()},
        }
    write(options.out, {"batch_size": BATCH_SIZE, "networks": speeds, "precision": "float32"})


if __name__ == "__main__":
    main()
