"""Training throughput of `fit` on the report's recipes, against loops written plainly.

    python benchmarks/throughput.py [--models report_baseline,report_best] [--repeats 5]

All train the same network with the same optimizer and batch size, and validate as often as the
report did: 5,000 images for every 22,500 trained on. `fit` also keeps the best state and watches
for the moment to stop. The assignment's loop reads from a DataLoader with two workers; the plain
loop from float32 tensors that lie in memory. They take turns in processes of their own, so that a
slow minute of the machine meets all, and none inherits another's memory. What is compared is the
median over the repeats of the ratio within one repeat.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

import assignment_loop
import torch
from interleaved import compare, parser_of, ratios, spread, write

import cifarzoo as zoo
from cifarzoo.hardware import resolve_precision
from cifarzoo.spec import PrecisionName

PEER, PLAIN, OURS, OURS_FLOAT32 = "assignment loop", "plain loop", "fit", "fit, float32"
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
    if way in (PEER, PLAIN):
        make = assignment_loop.loaders if way == PEER else assignment_loop.batches_in_memory
        train, val = make(root, recipe.batch_size, n_train, n_val)
        optimizer = assignment_loop.optimizer_of(recipe, model.network)
        return n_train / assignment_loop.train_for(model.network.train(), optimizer, train, val)
    full = zoo.cifar10_loaders(recipe.batch_size, root=root)
    assert isinstance(full.train, zoo.TensorLoader)

    def part(count: int) -> zoo.TensorLoader:
        assert isinstance(full.train, zoo.TensorLoader)
        return full.train.first(count)

    once = replace(recipe, epochs=1, checks_per_epoch=1)
    precision: PrecisionName = "float32" if way == OURS_FLOAT32 else "auto"
    warm_up = zoo.Loaders(part(WARM_UP_STEPS * recipe.batch_size))
    short = replace(once, early_stopping=None)
    zoo.fit(model, warm_up, short, device="cpu", precision=precision, progress=False)
    began = time.perf_counter()
    loaders = zoo.Loaders(part(n_train), part(n_val).in_order(batch_size=250))
    zoo.fit(model, loaders, once, device="cpu", precision=precision, progress=False)
    return n_train / (time.perf_counter() - began)


def main() -> None:
    """Measure, print a table, and write results/benchmark-throughput.json."""
    parser = parser_of(__doc__, "benchmark-throughput.json")
    parser.add_argument("--models", default="report_baseline,report_best")
    options = parser.parse_args()
    names = options.models.split(",")
    if unknown := set(names) - STEPS.keys():
        parser.error(f"--models has {', '.join(unknown)}; allowed: {', '.join(STEPS)}")
    if options.measure:
        print(measure(options.measure, names[0], options.data))
        return
    auto = resolve_precision("auto", torch.device("cpu"))
    ways = (PEER, PLAIN, OURS) + (() if auto == torch.float32 else (OURS_FLOAT32,))
    models = {}
    for name in names:
        passed_on = ["--models", name, "--data", str(options.data)]
        speeds = compare(__file__, ways, passed_on, repeats=options.repeats, unit="images/s")
        to_peer = ratios(speeds, PEER)
        medians = {way: statistics.median(values) for way, values in to_peer.items()}
        models[name] = {"images_per_second": speeds, "ratios": to_peer, "median_ratio": medians}
        for way, values in to_peer.items():
            print(f"{name:16} {way:16} {spread(values)} times the {PEER}")
    write(options.out, {"models": models})


if __name__ == "__main__":
    main()
