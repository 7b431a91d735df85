"""Milliseconds to build a model with its weights, compared with `torch.load` of the same weights.

    python benchmarks/loading_weights.py [--models tiny_m,resnet20] [--repeats 21]

`build_model` reads a packaged file, checks its hash, names and shapes, and fills the network that
it builds. The peer is the same network, built without weights, and `torch.load` of a float32 state
dict on the same disk. The methods take turns in one process. The first turn is not counted, so the
files are in the page cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import Speeds, make_parser, medians, ratios, spread, write

import cifarzoo as zoo

MODELS = "tiny_m,resnet20,sprint_m3,wrn_16_4"
BUILT = "network without weights"
OURS = "build_model with its weights"
PEER = "network and torch.load"


def make_methods(name: str, path: Path) -> dict[str, Callable[[], object]]:
    """Return the methods to load a model; the peer's file is written to `path`."""
    torch.save(zoo.build_model(name, weights="default").state_dict(), path)

    def peer() -> None:
        model = zoo.build_model(name)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    return {
        PEER: peer,
        BUILT: lambda: zoo.build_model(name),
        OURS: lambda: zoo.build_model(name, weights="default"),
    }


def measure(name: str, repeats: int) -> Speeds:
    """Return the milliseconds of every method, turn by turn."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        methods = make_methods(name, Path(folder, "weights.pt"))
        found: Speeds = {method: [] for method in methods}
        for turn in range(1 + repeats):
            for method, load in methods.items() if turn % 2 else reversed(methods.items()):
                began = time.perf_counter()
                load()
                if turn:
                    found[method].append(1000 * (time.perf_counter() - began))
    return found


def main() -> None:
    """Measure every model, print the result, and write results/benchmark-loading-weights.json."""
    parser = make_parser(__doc__, "benchmark-loading-weights.json", repeats=21)
    parser.add_argument("--models", default=MODELS, help="comma-separated; all need weights")
    options = parser.parse_args()
    models = {}
    for name in options.models.split(","):
        found = measure(name, 1 if options.quick else options.repeats)
        to_peer = ratios(found, PEER)
        models[name] = {
            "bytes": zoo.model_card(name).weights[0].size_bytes,
            "milliseconds": found,
            "ratios": to_peer,
            "median_ratio": medians(to_peer),
        }
        print(name, *(f"{method} {spread(each, 1)} ms" for method, each in found.items()), sep="; ")
    write(options.out, {"models": models})


if __name__ == "__main__":
    main()
