"""Run task 4a whole where ImageNet's weights cannot be had: ResNet-18 from a file of random ones.

    python benchmarks/resnet18_random.py [--out results/random_weights]

It shows that the report's run goes through from a file (what is trained, what stays frozen, how
long it takes); its accuracy says nothing about transfer learning.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from torchvision.models import resnet18

from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import experiment_of
from cifarzoo.report.record import Failure
from cifarzoo.report.runner import recorded, run_experiment
from cifarzoo.report.words import duration

KEY = "resnet18_transfer"


def main() -> None:
    """Write the file, run the experiment unless it is recorded, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/random_weights"))
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "resnet18-random.pth"
        torch.manual_seed(0)
        torch.save(resnet18(weights=None).state_dict(), weights)
        conditions = Conditions(folder=options.out, weights=weights, progress=not options.quiet)
        experiment = experiment_of(KEY)
        found = recorded(experiment, 0, conditions) or run_experiment(experiment, 0, conditions)
    if isinstance(found, Failure):
        sys.exit(found.error)
    assert found.test is not None
    print(
        f"{found.trainable:,} of {found.params:,} parameters trained, {found.history.steps:,} "
        f"steps, {duration(found.history.seconds)} of training; "
        f"test accuracy {found.test.accuracy:.2%}"
    )


if __name__ == "__main__":
    main()
