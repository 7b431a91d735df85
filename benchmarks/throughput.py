"""Training throughput of `fit` on the report's recipes, compared with plain loops.

    python benchmarks/throughput.py [--models report_baseline,report_best] [--repeats 5]

All methods train the same network with the same optimizer and batch size, and validate as often as
the report did: on 5,000 images for every 22,500 training images. `fit` also keeps the best state
and checks for early stopping. The assignment's loop reads from a DataLoader with two workers, the
plain loop from float32 tensors in memory. The methods take turns, each in its own process. The
result is the median over the repeats of the ratio within each repeat.

The time of a step of `fit` is also compared with that of its convolutions alone, and the peak rates
of matrix products and copies are measured.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import assignment_loop
import limits
import torch
from interleaved import (
    CPU,
    compare,
    make_parser,
    measure_in_process,
    medians,
    ratios,
    spread,
    write,
)

import cifarzoo as zoo
from cifarzoo.device import resolve_precision
from cifarzoo.recipe import PrecisionName

PEER, PLAIN, OURS, OURS_FLOAT32 = "assignment loop", "plain loop", "fit", "fit, float32"
STEPS = {"report_baseline": 351, "report_model1": 150, "report_model2": 150, "report_best": 70}
TRAINING_PER_VALIDATION_IMAGE = 4.5  # 22,500 to 5,000
WARM_UP_STEPS = 5
LIMITS = "limits"  # of `measure_in_process`


def measure(method: str, name: str, root: Path, steps: int) -> float:
    """Return training images per second, validation included."""
    card = zoo.model_card(name)
    recipe = card.recipe
    n_train = steps * recipe.batch_size
    n_val = round(n_train / TRAINING_PER_VALIDATION_IMAGE)
    torch.manual_seed(0)
    model = card.builder(10)
    if method in (PEER, PLAIN):
        make = assignment_loop.loaders if method == PEER else assignment_loop.batches_in_memory
        train, val = make(root, recipe.batch_size, n_train, n_val)
        optimizer = assignment_loop.make_optimizer(recipe, model.network)
        return n_train / assignment_loop.train_for(model.network.train(), optimizer, train, val)
    whole = zoo.cifar10_loaders(recipe.batch_size, root=root).train
    once = replace(recipe, epochs=1, checks_per_epoch=1)
    warm_up = zoo.Loaders(whole.first(WARM_UP_STEPS * recipe.batch_size))
    loaders = zoo.Loaders(whole.first(n_train), whole.first(n_val).in_order(batch_size=250))

    def fit(loaders: zoo.Loaders, recipe: zoo.Recipe) -> None:
        precision: PrecisionName = "float32" if method == OURS_FLOAT32 else "auto"
        zoo.fit(model, loaders, recipe, device="cpu", precision=precision, progress=False)

    fit(warm_up, replace(once, early_stopping=None))
    began = time.perf_counter()
    fit(loaders, once)
    return n_train / (time.perf_counter() - began)


def measure_step(name: str, root: Path, steps: int) -> dict[str, float]:
    """Return the milliseconds of a step of `fit`, and of its convolutions alone."""
    card = zoo.model_card(name)
    recipe = replace(card.recipe, epochs=1, checks_per_epoch=1, early_stopping=None)
    train = zoo.cifar10_loaders(recipe=recipe, root=root).train
    model = card.builder(10)
    for n in (WARM_UP_STEPS, steps):
        loaders = zoo.Loaders(train.first(n * recipe.batch_size))
        history = zoo.fit(model, loaders, recipe, device="cpu", progress=False)
    images, _ = next(iter(train))
    alone = limits.convolution_seconds(model, images, resolve_precision("auto", CPU))
    return {"step": 1000 * history.seconds / steps, "convolutions": 1000 * alone}


def main() -> None:
    """Measure, print a table, and write results/benchmark-throughput.json."""
    parser = make_parser(__doc__, "benchmark-throughput.json")
    parser.add_argument("--models", default="report_baseline,report_best")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := set(names) - STEPS.keys():
        parser.error(f"--models: unknown {', '.join(unknown)}, expected some of {', '.join(STEPS)}")
    if options.measure:
        name, _, method = options.measure.partition(":")
        steps = 5 if options.quick else STEPS[name]
        if method == LIMITS:
            taken = measure_step(name, options.data, steps)
            print(json.dumps(taken, separators=(",", ":")))
            return
        print(measure(method, name, options.data, steps))
        return
    auto = resolve_precision("auto", CPU)
    methods = (PEER, PLAIN, OURS) + (() if auto == torch.float32 else (OURS_FLOAT32,))
    models: dict[str, dict[str, Any]] = {}
    for name in names:
        found = compare(__file__, [f"{name}:{method}" for method in methods], options, "images/s")
        speeds = dict(zip(methods, found.values(), strict=True))
        to_peer = ratios(speeds, PEER)
        models[name] = {
            "images_per_second": speeds,
            "ratios": to_peer,
            "median_ratio": medians(to_peer),
            "milliseconds": [
                json.loads(measure_in_process(__file__, f"{name}:{LIMITS}", options))
                for _ in range(1 if options.quick else options.repeats)
            ],
        }
        for method, values in to_peer.items():
            print(f"{name:16} {method:16} {spread(values)} times the {PEER}")
        multiples = [each["step"] / each["convolutions"] for each in models[name]["milliseconds"]]
        print(f"{name:16} a step takes {spread(multiples)} times as long as its convolutions")
    write(options.out, {"models": models, "peaks": limits.peaks(quick=options.quick)})


if __name__ == "__main__":
    main()
