"""Whether a run's memory grows: a command of the zoo, looked at from outside until it ends.

    python benchmarks/soak.py -- train tiny_m --seeds 0 --out runs/tiny_m

Samples resident memory, open files and threads of the command, and of the processes that it
starts. The growth is the slope of memory over time, by Theil and Sen (scipy), after a tenth of the
run, in which libraries, pools and caches fill up.
"""

from __future__ import annotations

import subprocess
import sys
import time
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


def soak(arguments: list[str], every: float) -> tuple[int, list[Sample]]:
    """Run a command of the zoo to its end; give its exit status and what it held meanwhile."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "cifarzoo", *arguments])
    process = psutil.Process(child.pid)
    samples: list[Sample] = []
    try:
        while child.poll() is None:
            sample = sampled(process, (time.monotonic() - began) / 3600)
            if sample is not None and sample.memory:
                samples.append(sample)
            try:
                child.wait(every)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if child.poll() is None:
            child.terminate()  # it writes its checkpoint
            child.wait()
    return child.returncode, samples


def main() -> None:
    """Measure and record."""
    parser = parser_of(__doc__, "benchmark-soak.json")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two samples")
    parser.add_argument("command", nargs="+", help="of the zoo, after --")
    options = parser.parse_args()
    status, samples = soak(options.command, options.every)
    warm = [sample for sample in samples if sample.hours > WARM_UP * samples[-1].hours]
    if status or len(warm) < 2:
        sys.exit(f"the command ended with {status} after {len(samples)} samples: no soak")
    slope, _, low, high = theilslopes(
        [sample.memory for sample in warm], [sample.hours for sample in warm]
    )
    found = {
        "command": " ".join(("cifarzoo", *options.command)),
        "hours": round(samples[-1].hours, 3),
        "samples": len(samples),
        "first_mib": round(warm[0].memory, 1),
        "last_mib": round(warm[-1].memory, 1),
        "highest_mib": round(max(sample.memory for sample in samples), 1),
        "growth_mib_per_hour": round(slope, 2),
        "growth_interval": [round(low, 2), round(high, 2)],
        "files": [warm[0].files, warm[-1].files],
        "threads": [warm[0].threads, warm[-1].threads],
    }
    write(Path(options.out), found)
    print(found)


if __name__ == "__main__":
    main()
