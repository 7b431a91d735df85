"""Training throughput of `fit` against the assignment's loop, on the report's recipes.

    python benchmarks/throughput.py [--models report_baseline,report_best] [--repeats 5]

Both train the same network with the same optimizer and batch size, and validate as often as the
report did: 5,000 images for every 22,500 trained on. `fit` also keeps the best state and watches
for the moment to stop. They take turns in processes of their own, so that a slow minute of the
machine meets both, and neither inherits the other's memory. What is compared is the median over
the repeats of the ratio within one repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

import cifarzoo as zoo
from cifarzoo.hardware import processor_name, resolve_precision
from cifarzoo.report.provenance import this_source
from cifarzoo.spec import PrecisionName

PEER, OURS, OURS_FLOAT32 = "assignment loop", "fit", "fit, float32"
STEPS = {"report_baseline": 351, "report_model1": 150, "report_model2": 150, "report_best": 70}
IMAGES_PER_VALIDATION_IMAGE = 4.5  # 22,500 to 5,000
WARM_UP_STEPS = 5


def measure(way: str, model_name: str, root: Path) -> float:
    """Give training images per second, validation included, of one way to train."""
    card = zoo.model_card(model_name)
    recipe, steps = card.recipe, STEPS[model_name]
    n_train = steps * recipe.batch_size
    n_val = round(n_train / IMAGES_PER_VALIDATION_IMAGE)
    torch.manual_seed(0)
    model = card.builder(10)
    if way == PEER:
        import assignment_loop

        train, val = assignment_loop.loaders(root, recipe.batch_size, n_train, n_val)
        optimizer = assignment_loop.optimizer_of(recipe, model.network)
        return n_train / assignment_loop.train_for(model.network.train(), optimizer, train, val)
    full = zoo.cifar10_loaders(recipe.batch_size, root=root)
    assert isinstance(full.train, zoo.TensorLoader)

    def part(count: int) -> zoo.TensorLoader:
        assert isinstance(full.train, zoo.TensorLoader)
        return zoo.TensorLoader(
            full.train.images[:count],
            full.train.labels[:count],
            batch_size=recipe.batch_size,
            shuffle="every_epoch",
            last_batch="drop",
        )

    once = replace(recipe, epochs=1, checks_per_epoch=1)
    precision: PrecisionName = "float32" if way == OURS_FLOAT32 else "auto"
    warm_up = zoo.Loaders(part(WARM_UP_STEPS * recipe.batch_size))
    short = replace(once, early_stopping=None)
    zoo.fit(model, warm_up, short, device="cpu", precision=precision, progress=False)
    began = time.perf_counter()
    loaders = zoo.Loaders(part(n_train), part(n_val).in_order(batch_size=250))
    zoo.fit(model, loaders, once, device="cpu", precision=precision, progress=False)
    return n_train / (time.perf_counter() - began)


def in_own_process(way: str, model_name: str, root: Path) -> float:
    """Run `measure` in a fresh process."""
    command = [sys.executable, __file__, "--measure", way, "--models", model_name]
    done = subprocess.run(
        [*command, "--data", str(root)], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.split()[-1])


def compare(model_name: str, root: Path, repeats: int, ways: tuple[str, ...]) -> dict[str, object]:
    """Measure every way in turn, `repeats` times; give speeds and ratios to the peer."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in ways if repeat % 2 == 0 else ways[::-1]:
            speeds[way].append(in_own_process(way, model_name, root))
            print(f"{model_name:16} {way:16} {speeds[way][-1]:8.0f} images/s", flush=True)
    ratios = {
        way: [ours / peer for ours, peer in zip(speeds[way], speeds[PEER], strict=True)]
        for way in ways
        if way != PEER
    }
    return {
        "images_per_second": speeds,
        "ratios": ratios,
        "median_ratio": {way: statistics.median(values) for way, values in ratios.items()},
    }


def main() -> None:
    """Measure, print a table, and write results/benchmark-throughput.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="report_baseline,report_best")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CIFARZOO_DATA", ".")))
    parser.add_argument("--out", type=Path, default=Path("results/benchmark-throughput.json"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.models.split(",")) - STEPS.keys():
        parser.error(f"--models has {', '.join(unknown)}; allowed: {', '.join(STEPS)}")
    if options.measure:
        print(measure(options.measure, options.models, options.data))
        return
    auto = resolve_precision("auto", torch.device("cpu"))
    ways = (PEER, OURS) if auto == torch.float32 else (PEER, OURS, OURS_FLOAT32)
    compared = {
        name: compare(name, options.data, options.repeats, ways)
        for name in options.models.split(",")
    }
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "precision": str(auto).removeprefix("torch."),
        "source": asdict(this_source()),
        "models": compared,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, result in compared.items():
        print(f"{name}: median ratio to the {PEER}: {result['median_ratio']}")


if __name__ == "__main__":
    main()
