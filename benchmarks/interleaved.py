"""Measure several methods in alternation, so that a slow minute affects all of them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cifarzoo.provenance import provenance

CPU = torch.device("cpu")
Speeds = dict[str, list[float]]


def make_parser(description: str | None, out: str, *, repeats: int = 5) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks; `--measure` is for `compare`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--quick", action="store_true", help="check only that it runs")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CIFARZOO_DATA", ".")))
    parser.add_argument("--out", type=Path, default=Path("results", out))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser


def compare(script: str, methods: Sequence[str], options: argparse.Namespace, unit: str) -> Speeds:
    """Measure all methods in turn, in alternating order, each in its own process.

    `script --measure METHOD` prints one figure as its last word, in the given unit.
    """
    found: Speeds = {method: [] for method in methods}
    for repeat in range(1 if options.quick else options.repeats):
        for method in methods if repeat % 2 == 0 else reversed(methods):
            found[method].append(float(measure_in_process(script, method, options)))
            print(f"{method:40} {found[method][-1]:12,.1f} {unit}", flush=True)
    return found


def measure_in_process(
    script: str, method: str, options: argparse.Namespace, *arguments: str
) -> str:
    """Measure a method in a new process; return the last word that it prints."""
    command = [sys.executable, script, "--measure", method, "--data", str(options.data)]
    command += [*(["--quick"] if options.quick else []), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the median and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(found: Speeds, peer: str) -> Speeds:
    """Divide the figures of every method by those of the peer, within each repeat."""
    return {
        method: [ours / theirs for ours, theirs in zip(values, found[peer], strict=True)]
        for method, values in found.items()
        if method != peer
    }


def medians(found: Speeds) -> dict[str, float]:
    """Return the median of every method."""
    return {method: statistics.median(values) for method, values in found.items()}


def write(path: Path, measured: Mapping[str, object], *, device: torch.device = CPU) -> None:
    """Write a measurement and its provenance; the recorded precision is what "auto" selects."""
    where: dict[str, Any] = asdict(provenance(device))
    source = {name: where.pop(name) for name in ("commit", "dirty", "versions")}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**where, "source": source, **measured}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
