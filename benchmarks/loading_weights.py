"""Milliseconds until a model is there with its weights, against `torch.load` of the same ones.

    python benchmarks/loading_weights.py [--models tiny_m,resnet20] [--repeats 21]

`build_model` reads a packaged file, checks its hash, names, shapes and numbers, and fills a network
that it builds. The peer is that network, built without weights, and `torch.load` of a state dict on
the same disk, in float32. They take turns in one process; the first turn is not counted, so files
come from the system's memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import Speeds, parser_of, ratios, spread, write

import cifarzoo as zoo

MODELS = "tiny_m,resnet20,sprint_m3,wrn_16_4"
BUILT = "network without weights"
OURS = "build_model with its weights"
PEER = "network and torch.load"


def ways_of(name: str, path: Path) -> dict[str, Callable[[], object]]:
    """Give the ways to have a model; the peer's file is written to a path."""
    torch.save(zoo.build_model(name, weights="default").state_dict(), path)

    def peer() -> None:
        model = zoo.build_model(name, weights=None)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    return {
        PEER: peer,
        BUILT: lambda: zoo.build_model(name, weights=None),
        OURS: lambda: zoo.build_model(name, weights="default"),
    }


def measure(name: str, repeats: int) -> Speeds:
    """Give the milliseconds of every way, turn by turn."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        ways = ways_of(name, Path(folder, "weights.pt"))
        found: Speeds = {way: [] for way in ways}
        for turn in range(1 + repeats):
            for way, load in ways.items() if turn % 2 else reversed(ways.items()):
                began = time.perf_counter()
                load()
                if turn:
                    found[way].append(1000 * (time.perf_counter() - began))
    return found


def main() -> None:
    """Measure every model, and write what was found."""
    parser = parser_of(__doc__, "benchmark-loading-weights.json", repeats=21)
    parser.add_argument("--models", default=MODELS, help="comma-separated; each has weights")
    options = parser.parse_args()
    models = {}
    for name in options.models.split(","):
        found = measure(name, options.repeats)
        to_peer = ratios(found, PEER)
        models[name] = {
            "bytes": zoo.model_card(name).weights[0].size_bytes,
            "milliseconds": found,
            "ratios": to_peer,
            "median_ratio": {way: statistics.median(each) for way, each in to_peer.items()},
        }
        print(f"{name}: {'; '.join(f'{way} {spread(each, 1)} ms' for way, each in found.items())}")
    write(options.out, {"models": models})


if __name__ == "__main__":
    main()
