"""Everything that needs a GPU, in one command of a few minutes.

    python benchmarks/gpu.py [--models resnet20,sprint_m] [--repeats 3]

1. Correctness: probabilities of every model, in each precision, against float32 on the CPU.
2. Training speed: images per second and peak memory of `fit`, eager and compiled, in turns.
3. Time to accuracy: `benchmarks/time_to_accuracy.py`, against airbench94_muon's method.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from interleaved import make_parser, spread, write

import cifarzoo as zoo
from cifarzoo.device import resolve_device
from cifarzoo.recipe import PrecisionName, scale_epochs

MODELS = "report_baseline,report_best,resnet20,wrn_28_10,densenet40_k12_bc,sprint_m,sprint_l,tiny_m"
STEPS = 50  # of an epoch


def largest_differences(name: str, images: torch.Tensor, device: torch.device) -> dict[str, float]:
    """Return the largest difference of the probabilities from the CPU's, by precision."""
    weights = "default" if zoo.model_card(name).weights else None
    if zoo.model_card(name).initial_weights:
        return {}  # its weights are downloaded
    torch.manual_seed(0)
    model = zoo.build_model(name, weights=weights)
    if getattr(model, "needs_images", False):
        model.initialize_from(images / 255)
    expected = zoo.predict(model, images, device="cpu").probabilities
    return {
        precision: float(
            (
                zoo.predict(model, images, device=device, precision=precision).probabilities
                - expected
            )
            .abs()
            .max()
        )
        for precision in get_args(PrecisionName)
        if precision != "auto"
    }


def training_speed(
    name: str, loaders: zoo.Loaders, device: torch.device, *, compiles: bool
) -> dict[str, float]:
    """Return images per second in the second epoch of `fit`, and peak memory in GB."""
    recipe = scale_epochs(zoo.model_card(name).recipe, 2)
    recipe = replace(recipe, checks_per_epoch=1, early_stopping=None, distillation=None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    history = zoo.fit(
        zoo.build_model(name), loaders, recipe, device=device, compile=compiles, progress=False
    )
    first, second = (check.seconds for check in history.checks)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    return {"images_per_second": history.images / 2 / (second - first), "gigabytes": peak}


def measure(options: Namespace, device: torch.device) -> dict[str, Any]:
    """Check and measure the models."""
    whole = zoo.cifar10_loaders(root=options.data, download=False)
    images = whole.test.images[: 8 if options.quick else 250]
    names = options.models.split(",")
    differences = {}
    for name in names if options.quick else zoo.list_models():
        differences[name] = largest_differences(name, images, device)
        print(f"{name:20} {differences[name]}", flush=True)
    speeds: dict[str, Any] = {}
    for name in names:
        recipe = zoo.model_card(name).recipe
        train = zoo.cifar10_loaders(recipe=recipe, root=options.data, download=False).train
        loaders = zoo.Loaders(train.first((1 if options.quick else STEPS) * recipe.batch_size))
        for way in ("eager", "compiled") * (1 if options.quick else options.repeats):
            found = training_speed(name, loaders, device, compiles=way == "compiled")
            speeds.setdefault(name, {}).setdefault(way, []).append(found)
        for way, values in speeds[name].items():
            speed = spread([each["images_per_second"] for each in values], 0)
            print(f"{name:20} {way:10} {speed} images/s", flush=True)
    return {"largest_difference": differences, "training": speeds}


def main() -> None:
    """Measure, print, and write results/benchmark-gpu.json."""
    parser = make_parser(__doc__, "benchmark-gpu.json", repeats=3)
    parser.add_argument("--models", default=MODELS, help="comma-separated, for the training speed")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = resolve_device(options.device)
    write(options.out, measure(options, device), device=device)
    if device.type == "cuda":
        script = Path(__file__).with_name("time_to_accuracy.py")
        subprocess.run([sys.executable, script, "--data", options.data, "--gpu-only"], check=True)


if __name__ == "__main__":
    main()
