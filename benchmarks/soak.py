"""Whether a run's memory grows: a command of the zoo, looked at from outside.

    python benchmarks/soak.py -- train tiny_m --seeds 0 --out runs/tiny_m
    python benchmarks/soak.py --pid 1234 --hours 2

Samples resident memory, open files and threads of the command, and of the processes that it
starts. The growth is the slope of memory over time, by Theil and Sen (scipy), after a tenth of the
run, in which libraries, pools and caches fill up.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from interleaved import parser_of, write
from scipy.stats import theilslopes

MIB = 2**20
WARM_UP = 0.1  # of the run


@dataclass(frozen=True)
class Sample:
    """What a command held at one moment."""

    hours: float
    memory: float  # MiB
    files: int
    threads: int


def sampled(process: psutil.Process, hours: float) -> Sample | None:
    """Look at a process and those that it started; None if it just ended."""
    try:
        every = (process, *process.children(recursive=True))
        memory = sum(each.memory_info().rss for each in every) / MIB
        files = sum(each.num_fds() for each in every)
        return Sample(hours, memory, files, sum(each.num_threads() for each in every))
    except psutil.NoSuchProcess:
        return None


def watched(process: psutil.Process, every: float, until: float) -> list[Sample]:
    """Look at a process until it ends, or for so many hours."""
    samples: list[Sample] = []
    began = time.monotonic()
    while (hours := (time.monotonic() - began) / 3600) < until:
        sample = sampled(process, hours)
        if sample is not None and sample.memory:
            samples.append(sample)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(every)
            break
    return samples


def shown(words: Sequence[str]) -> str:
    """Write a command without this machine's folders."""
    return " ".join(Path(word).name if Path(word).is_absolute() else word for word in words)


def soak(options: argparse.Namespace) -> tuple[str, list[Sample]]:
    """Run a command of the zoo, or find one that runs; give it and what it held meanwhile."""
    if options.pid is not None:
        process = psutil.Process(options.pid)
        return shown(process.cmdline()), watched(process, options.every, options.hours)
    command = (sys.executable, "-m", "cifarzoo", *options.command)
    child = psutil.Popen(command)
    try:
        samples = watched(child, options.every, options.hours)
    finally:
        if child.is_running():
            child.terminate()  # it writes its checkpoint
        status = child.wait()
    if status and samples[-1].hours < options.hours:
        print(f"the command ended with {status}")
    return shown(command), samples


def main() -> None:
    """Measure and record."""
    parser = parser_of(__doc__, "benchmark-soak.json")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two samples")
    parser.add_argument("--hours", type=float, default=math.inf, help="at most")
    parser.add_argument("--pid", type=int, help="of a command that runs, in the place of one")
    parser.add_argument("command", nargs="*", help="of the zoo, after --")
    options = parser.parse_args()
    if (options.pid is None) == (not options.command):
        parser.error("give a command, or the --pid of one that runs")
    command, samples = soak(options)
    warm = [sample for sample in samples if sample.hours >= WARM_UP * samples[-1].hours]
    if len(warm) < 2:
        sys.exit(f"{len(samples)} samples: no soak")
    slope, _, low, high = theilslopes(
        [sample.memory for sample in warm], [sample.hours for sample in warm]
    )
    found = {
        "command": command,
        "hours": round(samples[-1].hours, 3),
        "samples": len(samples),
        "first_mib": round(warm[0].memory, 1),
        "last_mib": round(warm[-1].memory, 1),
        "highest_mib": round(max(sample.memory for sample in samples), 1),
        "growth_mib_per_hour": round(float(slope), 2),
        "growth_interval": [round(float(low), 2), round(float(high), 2)],
        "files": [warm[0].files, warm[-1].files],
        "os_threads": [warm[0].threads, warm[-1].threads],
    }
    write(Path(options.out), found)
    print(found)


if __name__ == "__main__":
    main()
