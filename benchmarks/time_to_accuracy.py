"""Seconds of training and accuracy of the sprint networks and of airbench94_muon's method.

    python benchmarks/time_to_accuracy.py [--repeats 3] [--images 10000] [--device auto]

All methods train from scratch, in turns, each run in its own process with its own seed. Whole runs
are scored on the test set with one view and with six; with `--images`, every epoch takes only so
many images, for seconds without accuracies. The seconds are those of training, from images in
memory; on a GPU a short run goes first, in which kernels are compiled. On a CPU the peer is also
measured with the settings of the memory allocator that `fit` uses.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import airbench_loop
import torch
from airbench_loop import Outcome
from interleaved import make_parser, measure_in_process, ratios, spread, write

import cifarzoo as zoo
from cifarzoo.device import keep_freed_memory, processor_name, resolve_device
from cifarzoo.recipe import scale_epochs

PEER = "airbench94_muon's method"
KEPT = f"{PEER}, memory kept"
QUICK_IMAGES = 4_000


def ours(
    name: str, root: Path, *, seed: int, device: torch.device, epochs: int | None, limit: int | None
) -> Outcome:
    """Train a network once with its recipe; `epochs` and `limit` shorten the run."""
    recipe = zoo.model_card(name).recipe
    whole = zoo.cifar10_loaders(
        recipe.batch_size,
        root=root,
        val_fraction=recipe.val_fraction,
        augmentation=recipe.augmentation,
        seed=seed,
        download=False,
    )
    loaders = zoo.Loaders(whole.train, None, whole.test)
    if limit is not None:
        loaders = zoo.Loaders(whole.train.first(limit), None, whole.test.first(limit))

    def train(epochs: int) -> zoo.Run:
        return zoo.train(
            name,
            data=loaders,
            recipe=scale_epochs(recipe, epochs),
            seed=seed,
            device=device,
            tta="flip_translate",
            progress=False,
        )

    if device.type == "cuda":
        train(1)
    run = train(epochs or recipe.epochs)
    assert run.test is not None
    assert run.test_tta is not None
    return Outcome(run.history.seconds, run.test.accuracy, run.test_tta.accuracy)


def measure(options: argparse.Namespace, device: torch.device) -> Outcome:
    """Train once with the chosen method."""
    epochs, limit = (1, QUICK_IMAGES) if options.quick else (None, options.images)
    method = options.measure
    if method not in {PEER, KEPT}:
        return ours(
            method, options.data, seed=options.seed, device=device, epochs=epochs, limit=limit
        )
    if method == KEPT:
        keep_freed_memory()
    return airbench_loop.train_once(
        options.data,
        seed=options.seed,
        device=device,
        epochs=epochs or airbench_loop.EPOCHS,
        limit=limit,
    )


def print_summary(found: Mapping[str, Sequence[Outcome]]) -> None:
    """Print the seconds of each method, and how long they take relative to the first."""
    seconds = {method: [each.seconds for each in runs] for method, runs in found.items()}
    relative = ratios(seconds, next(iter(seconds)))
    for method, values in seconds.items():
        share = f", relative: {spread(relative[method], 3)}" if method in relative else ""
        print(f"{method:40} {spread(values)} s{share}")


def main() -> None:
    """Measure, print a table, and write results/benchmark-time-to-accuracy.json."""
    parser = make_parser(__doc__, "benchmark-time-to-accuracy.json", repeats=3)
    parser.add_argument("--method", help="a single method; default: all")
    parser.add_argument("--images", type=int, help="training images per epoch; default: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu-only", action="store_true", help="do nothing without a GPU")
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.gpu_only and device.type != "cuda":
        print("no GPU: nothing is measured; omit --gpu-only to measure on the CPU")
        return
    if options.measure:
        print(json.dumps(asdict(measure(options, device)), separators=(",", ":")))
        return
    chosen = [options.method] if options.method else [PEER, KEPT, "sprint_m", "sprint_s"]
    if device.type == "cuda":
        chosen.remove(KEPT)  # a setting of the CPU's allocator
    found: dict[str, list[Outcome]] = {method: [] for method in chosen}
    for repeat in range(1 if options.quick else options.repeats):
        where = ["--device", str(device), "--seed", str(options.seed + repeat)]
        where += ["--images", str(options.images)] if options.images else []
        for method in found if repeat % 2 == 0 else reversed(found):
            outcome = Outcome(**json.loads(measure_in_process(__file__, method, options, *where)))
            found[method].append(outcome)
            print(f"{method:40} {outcome}", flush=True)
    print_summary(found)
    out = options.out
    if device.type == "cuda":  # next to the CPU's
        out = out.with_stem(f"{out.stem}-{processor_name(device).replace(' ', '_')}")
    runs = {method: [asdict(each) for each in outcomes] for method, outcomes in found.items()}
    write(out, {"images": options.images, "runs": runs}, device=device)


if __name__ == "__main__":
    main()
