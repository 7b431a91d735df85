"""What `fit` costs before it begins, and how speed and memory follow from what it is given.

    python benchmarks/scaling.py [--repeats 3]

Seconds of `import cifarzoo` beside those of `import torch`, and up to the first step of training;
images per second against batch size, threads and width; peak memory of a run of the baseline,
whole and against the number of images. Every figure comes from a process of its own.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from interleaved import compare, parser_of, ratios, spread, write

STEPS_SECONDS = 6.0
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
    """Give the seconds that Python takes for a program, its own start included."""
    began = time.perf_counter()
    environment = os.environ | {"CIFARZOO_DATA": str(data)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return time.perf_counter() - began


def images_per_second(
    data: Path, *, batch_size: int = 64, threads: int | None = None, width: float = 1.0
) -> float:
    """Give the speed of training the baseline, its blocks' filters times `width`."""
    import torch

    import cifarzoo as zoo
    from cifarzoo.models.report import BASELINE, report_model

    if threads is not None:
        torch.set_num_threads(threads)
    filters = tuple(round(width * count) for count in BASELINE.filters)
    model = report_model(replace(BASELINE, filters=filters))
    loaders = zoo.cifar10_loaders(batch_size, root=data, download=False)
    assert isinstance(loaders.train, zoo.TensorLoader)
    recipe = zoo.Recipe(epochs=1, batch_size=batch_size, lr=0.01, keep="last")
    images, seconds = 20 * batch_size, 0.0
    while seconds < STEPS_SECONDS and images < len(loaders.train) * batch_size:
        part = zoo.Loaders(loaders.train.first(images))
        seconds = zoo.fit(model, part, recipe, device="cpu", progress=False).seconds
        speed = images / seconds
        images = round(speed * STEPS_SECONDS * 1.2 / batch_size + 1) * batch_size
    return speed


def peak_gigabytes(data: Path, *, n: int | None = None) -> float:
    """Give the most memory that a run of the baseline holds: load, train an epoch, score."""
    import cifarzoo as zoo

    card = zoo.model_card("report_baseline")
    whole = zoo.cifar10_loaders(card.recipe.batch_size, root=data, download=False)
    loaders: zoo.Loaders = whole
    if n is not None:
        val = whole.val and whole.val.first(n)
        loaders = zoo.Loaders(train=whole.train.first(n), val=val, test=whole.test.first(n))
    recipe = replace(card.recipe, epochs=1)
    zoo.train(card, data=loaders, recipe=recipe, device="cpu", progress=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def ways(data: Path) -> dict[str, dict[str, Callable[[], float]]]:
    """List what is measured: by unit, then by name."""
    speed, memory = partial(images_per_second, data), partial(peak_gigabytes, data)
    return {
        "seconds": {
            name: partial(program_seconds, data, program) for name, program in PROGRAMS.items()
        },
        "images/s": {
            **{f"batches of {n}": partial(speed, batch_size=n) for n in (16, 64, 256, 1024)},
            **{f"threads: {n}": partial(speed, threads=n) for n in (1, 2)},
            **{f"filters x {n:g}": partial(speed, width=n) for n in (0.5, 1.0, 2.0, 4.0)},
        },
        "GB": {
            "a whole epoch": memory,
            **{f"{n:,} images": partial(memory, n=n) for n in (1_000, 10_000, 30_000)},
        },
    }


def main() -> None:
    """Measure, print a table, and write results/benchmark-scaling.json."""
    options = parser_of(__doc__, "benchmark-scaling.json", repeats=3).parse_args()
    by_unit = ways(options.data)
    if options.measure:
        unit, _, name = options.measure.partition(":")
        print(by_unit[unit][name]())
        return
    measured: dict[str, object] = {}
    for unit, named in by_unit.items():
        listed = [f"{unit}:{name}" for name in named]
        passed_on = ["--data", str(options.data)]
        found = compare(__file__, listed, passed_on, repeats=options.repeats, unit=unit)
        measured[unit] = {way.partition(":")[2]: values for way, values in found.items()}
        for way, values in found.items():
            print(f"{way.partition(':')[2]:34} {spread(values)} {unit}")
        if unit == "seconds":
            to_torch = ratios(found, "seconds:import torch")
            measured["import_ratio"] = {
                way.partition(":")[2]: statistics.median(values) for way, values in to_torch.items()
            }
    write(options.out, measured)


if __name__ == "__main__":
    main()
