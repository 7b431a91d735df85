"""Start-up time of `fit`, and how its speed and memory depend on its arguments.

    python benchmarks/scaling.py [--repeats 3]

Seconds to import cifarzoo and to import torch, and until the end of the first training step; images
per second by batch size, threads and width; peak memory of a run of the baseline by the number of
images. Each figure comes from its own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from interleaved import compare, make_parser, medians, ratios, spread, write

PROGRAMS = {
    "nothing": "",
    "import torch": "import torch",
    "import cifarzoo": "import cifarzoo",
    "cifarzoo.fit": "import cifarzoo; cifarzoo.fit",
    "to the end of the first step": """
import cifarzoo as zoo
loaders = zoo.cifar10_loaders(64, download=False)
one = zoo.Loaders(loaders.train.first(64))
model = zoo.build_model("report_baseline")
zoo.fit(model, one, zoo.Recipe(epochs=1), device="cpu", progress=False)
""",
}


def program_seconds(data: Path, program: str) -> float:
    """Return the seconds that Python takes to start and run a program."""
    began = time.perf_counter()
    environment = os.environ | {"CIFARZOO_DATA": str(data)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return time.perf_counter() - began


def images_per_second(
    data: Path,
    seconds_wanted: float,
    *,
    batch_size: int = 64,
    threads: int | None = None,
    width: float = 1.0,
) -> float:
    """Return the training speed of the baseline, with its filters multiplied by `width`."""
    import torch

    import cifarzoo as zoo
    from cifarzoo.models.report import report_model

    if threads is not None:
        torch.set_num_threads(threads)
    model = report_model(filters=tuple(round(width * count) for count in (32, 64, 128)))
    train = zoo.cifar10_loaders(batch_size, root=data, download=False).train
    recipe = zoo.Recipe(epochs=1, batch_size=batch_size, lr=0.01, keep="last")
    images, seconds, speed = 20 * batch_size, 0.0, 0.0
    while seconds < seconds_wanted and images < len(train) * batch_size:
        part = zoo.Loaders(train.first(images))
        seconds = zoo.fit(model, part, recipe, device="cpu", progress=False).seconds
        speed = images / seconds
        images = round(speed * seconds_wanted * 1.2 / batch_size + 1) * batch_size
    return speed


def peak_gigabytes(data: Path, *, limit: int | None = None) -> float:
    """Return the peak memory of a run of the baseline: load, train one epoch, score."""
    import resource  # which Windows lacks

    import cifarzoo as zoo

    recipe = replace(zoo.model_card("report_baseline").recipe, epochs=1)
    zoo.train(
        "report_baseline", root=data, recipe=recipe, limit=limit, device="cpu", progress=False
    )
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def make_methods(data: Path, *, quick: bool) -> dict[str, dict[str, Callable[[], float]]]:
    """Return the measurements by unit, then by name."""
    speed = partial(images_per_second, data, 0.5 if quick else 6.0)
    memory = partial(peak_gigabytes, data)
    sizes = {"a whole epoch": None, **{f"{n:,} images": n for n in (1_000, 10_000, 30_000)}}
    if quick:
        sizes = {"1,000 images": 1_000}
    return {
        "seconds": {
            name: partial(program_seconds, data, program) for name, program in PROGRAMS.items()
        },
        "images/s": {
            **{f"batches of {n}": partial(speed, batch_size=n) for n in (16, 64, 256, 1024)},
            **{f"threads: {n}": partial(speed, threads=n) for n in (1, 2)},
            **{f"filters x {n:g}": partial(speed, width=n) for n in (0.5, 1.0, 2.0, 4.0)},
        },
        "GB": {name: partial(memory, limit=limit) for name, limit in sizes.items()},
    }


def main() -> None:
    """Measure, print a table, and write results/benchmark-scaling.json."""
    options = make_parser(__doc__, "benchmark-scaling.json", repeats=3).parse_args()
    methods = make_methods(options.data, quick=options.quick)
    if options.measure:
        unit, _, name = options.measure.partition(":")
        print(methods[unit][name]())
        return
    measured: dict[str, object] = {}
    for unit, named in methods.items():
        listed = compare(__file__, [f"{unit}:{name}" for name in named], options, unit)
        found = dict(zip(named, listed.values(), strict=True))
        measured[unit] = found
        for name, values in found.items():
            print(f"{name:34} {spread(values)} {unit}")
        if unit == "seconds":
            measured["import_ratio"] = medians(ratios(found, "import torch"))
    write(options.out, measured)


if __name__ == "__main__":
    main()
