"""Seconds of training and accuracy of `sprint_m` and of airbench94_muon's method.

    python benchmarks/time_to_accuracy.py [--repeats 3] [--device auto]

Both train from scratch on all 50,000 images, in turns, each run in its own process with its own
seed, and are scored on the test set with one view and with six. The seconds are those of training,
from images in memory; on a GPU a short run goes first, in which kernels are compiled. The result is
the median over the repeats of the ratio within one repeat.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import airbench_loop
import torch
from airbench_loop import Outcome
from interleaved import make_parser, measure_in_process, spread, write

import cifarzoo as zoo
from cifarzoo.device import processor_name, resolve_device
from cifarzoo.recipe import scale_epochs

PEER, OURS = "airbench94_muon's method", "sprint_m"
QUICK_IMAGES = 4_000


def ours(
    root: Path, *, seed: int, device: torch.device, epochs: int | None, limit: int | None
) -> Outcome:
    """Train `sprint_m` once with its recipe; `epochs` and `limit` shorten the run."""
    recipe = zoo.model_card("sprint_m").recipe
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
            "sprint_m",
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
    epochs, limit = (1, QUICK_IMAGES) if options.quick else (None, None)
    if options.measure == OURS:
        return ours(options.data, seed=options.seed, device=device, epochs=epochs, limit=limit)
    return airbench_loop.train_once(
        options.data,
        seed=options.seed,
        device=device,
        epochs=epochs or airbench_loop.EPOCHS,
        limit=limit,
    )


def summarize(found: Mapping[str, Sequence[Outcome]]) -> dict[str, object]:
    """Print and return medians, means and the ratio."""
    for method, outcomes in found.items():
        single = statistics.fmean(each.single_view for each in outcomes)
        views = statistics.fmean(each.six_views for each in outcomes)
        seconds = spread([each.seconds for each in outcomes])
        print(f"{method:26} {seconds} s, {single:.2%} single view, {views:.2%} six views")
    ratios = [a.seconds / b.seconds for a, b in zip(found[OURS], found[PEER], strict=True)]
    print(f"{OURS} takes {spread(ratios)} times as long as {PEER}")
    return {"ratios": ratios, "median_ratio": statistics.median(ratios)}


def main() -> None:
    """Measure, print a table, and write results/benchmark-time-to-accuracy.json."""
    parser = make_parser(__doc__, "benchmark-time-to-accuracy.json", repeats=3)
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
    found: dict[str, list[Outcome]] = {PEER: [], OURS: []}
    for repeat in range(1 if options.quick else options.repeats):
        where = ("--device", str(device), "--seed", str(options.seed + repeat))
        for method in found if repeat % 2 == 0 else reversed(found):
            outcome = Outcome(**json.loads(measure_in_process(__file__, method, options, *where)))
            found[method].append(outcome)
            print(f"{method:26} {outcome}", flush=True)
    out = options.out
    if device.type == "cuda":  # next to the CPU's
        out = out.with_stem(f"{out.stem}-{processor_name(device).replace(' ', '_')}")
    runs = {method: [asdict(each) for each in outcomes] for method, outcomes in found.items()}
    write(out, {"runs": runs, **summarize(found)}, device=device)


if __name__ == "__main__":
    main()
