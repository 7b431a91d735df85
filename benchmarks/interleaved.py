"""Measuring several ways to do one thing, in turns, so that a slow minute meets them all."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from cifarzoo.hardware import processor_name, resolve_precision
from cifarzoo.report.provenance import this_source

__all__ = ["Speeds", "compare", "parser_of", "spread", "write"]

CPU = torch.device("cpu")
Speeds = dict[str, list[float]]


def parser_of(description: str | None, out: str, *, repeats: int = 5) -> argparse.ArgumentParser:
    """Give the options that the benchmarks have in common; `--measure` is for `compare`."""
    this_source()  # remembered from here on: the measuring takes a while
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CIFARZOO_DATA", ".")))
    parser.add_argument("--out", type=Path, default=Path("results", out))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser


def compare(
    script: str, ways: Sequence[str], options: Sequence[str], *, repeats: int, unit: str
) -> Speeds:
    """Measure every way in turn, forwards and backwards, each in a process of its own.

    Args:
        script: the file to run; with `--measure WAY` it prints one figure, as its last word.
        ways: what there is to measure.
        options: of the script, the same for every way.
        repeats: how many times each way is measured.
        unit: of the figures.
    """
    found: Speeds = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in ways if repeat % 2 == 0 else tuple(reversed(ways)):
            command = [sys.executable, script, "--measure", way, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[way].append(float(done.stdout.split()[-1]))
            print(f"{way:32} {found[way][-1]:12,.1f} {unit}", flush=True)
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write a median and how far the figures lie apart."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(found: Speeds, peer: str) -> Speeds:
    """Divide the figures of every way by those of one, repeat by repeat."""
    return {
        way: [ours / theirs for ours, theirs in zip(values, found[peer], strict=True)]
        for way, values in found.items()
        if way != peer
    }


def write(path: Path, measured: Mapping[str, object], *, device: torch.device = CPU) -> None:
    """Write what was measured, and on what; the precision is the one of "auto" there."""
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "processor": processor_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(resolve_precision("auto", device)).removeprefix("torch."),
        "source": asdict(this_source()),
        **measured,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
