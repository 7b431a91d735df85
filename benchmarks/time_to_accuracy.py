"""`sprint_m` beside airbench94_muon's method: seconds of training, and what they reach.

    python benchmarks/time_to_accuracy.py [--repeats 3] [--device auto]

Both train from nothing on all 50,000 images, in turns, each run in a process of its own with a seed
of its own, and are scored over the test set from one view and from six. The seconds are those of
training, from images in memory on; on a GPU a short run goes before, in which kernels are compiled.
What is compared is the median over the repeats of the ratio within one repeat.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import airbench_loop
import torch
from airbench_loop import Outcome
from interleaved import parser_of, spread, write

import cifarzoo as zoo
from cifarzoo.hardware import processor_name, resolve_device

PEER, OURS = "airbench94_muon's method", "sprint_m"


def ours(root: Path, *, seed: int, device: torch.device) -> Outcome:
    """Train `sprint_m` once by its card."""
    card = zoo.model_card("sprint_m")
    loaders = zoo.cifar10_loaders(
        card.recipe.batch_size,
        root=root,
        val_fraction=card.recipe.val_fraction,
        augmentation=card.recipe.augmentation,
        seed=seed,
        device=device,
        download=False,
    )
    if device.type == "cuda":
        short = replace(card, recipe=replace(card.recipe, epochs=1))
        zoo.train(short, data=loaders, seed=seed, device=device, progress=False)
    only_test = zoo.Loaders(loaders.train, None, loaders.test)
    run = zoo.train(
        card, data=only_test, seed=seed, device=device, tta="flip_translate", progress=False
    )
    assert run.test is not None
    assert run.test_tta is not None
    return Outcome(
        seconds=run.history.seconds,
        single_view=run.test.accuracy,
        six_views=run.test_tta.accuracy,
    )


def measure(way: str, root: Path, *, seed: int, device: torch.device) -> Outcome:
    """Train once, one way or the other."""
    if way == OURS:
        return ours(root, seed=seed, device=device)
    return airbench_loop.train_once(root, seed=seed, device=device)


def in_process(way: str, options: Sequence[str]) -> Outcome:
    """Train once in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = Outcome(**json.loads(done.stdout.splitlines()[-1]))
    print(
        f"{way:26} {found.seconds:8.2f} s  {found.single_view:.2%}  {found.six_views:.2%}",
        flush=True,
    )
    return found


def summary(found: Mapping[str, Sequence[Outcome]]) -> dict[str, object]:
    """Print medians, means and the ratio, and give them."""
    ratios = [a.seconds / b.seconds for a, b in zip(found[OURS], found[PEER], strict=True)]
    for way, outcomes in found.items():
        single = zoo.mean_and_std([each.single_view for each in outcomes])
        views = zoo.mean_and_std([each.six_views for each in outcomes])
        seconds = spread([each.seconds for each in outcomes])
        print(f"{way:26} {seconds} s, {single.mean:.2%} single view, {views.mean:.2%} six views")
    print(f"{OURS} takes {spread(ratios)} times as long as {PEER}")
    return {"ratios": ratios, "median_ratio": statistics.median(ratios)}


def main() -> None:
    """Measure, print a table, and write results/benchmark-time-to-accuracy.json."""
    parser = parser_of(__doc__, "benchmark-time-to-accuracy.json", repeats=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu-only", action="store_true", help="do nothing without a GPU")
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.gpu_only and device.type != "cuda":
        print("no GPU here: time to accuracy is left out; without --gpu-only it is measured")
        return
    if options.measure:
        outcome = measure(options.measure, options.data, seed=options.seed, device=device)
        print(json.dumps(asdict(outcome)))
        return
    found: dict[str, list[Outcome]] = {PEER: [], OURS: []}
    for repeat in range(options.repeats):
        seed = options.seed + repeat
        passed_on = ["--data", str(options.data), "--device", str(device), "--seed", str(seed)]
        for way in found if repeat % 2 == 0 else reversed(found):
            found[way].append(in_process(way, passed_on))
    out = options.out
    if device.type == "cuda":  # beside the CPU's
        out = out.with_stem(f"{out.stem}-{processor_name(device).replace(' ', '_')}")
    write(
        out,
        {
            "runs": {way: [asdict(each) for each in outcomes] for way, outcomes in found.items()},
            **summary(found),
        },
        device=device,
    )


if __name__ == "__main__":
    main()
