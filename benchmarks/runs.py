"""What the benchmarks that train have in common: their options, and a run that is made once."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cifarzoo.cli.options import seed_numbers
from cifarzoo.errors import OptionError
from cifarzoo.hardware import processor_name, resolve_device
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.runner import recorded, run_experiment

__all__ = ["folder_of", "parser_of", "run_once"]


def parser_of(description: str | None, *, out: str, seeds: str) -> argparse.ArgumentParser:
    """Give the options that these benchmarks share, with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=_seeds, default=seeds)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return seed_numbers(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def folder_of(out: Path, device: str) -> Path:
    """Give the folder of the records that are made on a device: a GPU has one of its own."""
    place = resolve_device(device)
    return out if place.type == "cpu" else out / re.sub(r"[^\w.-]+", "_", processor_name(place))


def run_once(experiment: Experiment, seed: int, conditions: Conditions) -> Record:
    """Read the record of a run, or make it; the script ends where that fails."""
    found = recorded(experiment, seed, conditions) or run_experiment(experiment, seed, conditions)
    if isinstance(found, Failure):
        sys.exit(f"{experiment.key}, seed {seed}: {found.error}")
    return found
