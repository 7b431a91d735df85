"""Run task 4a whole where ImageNet's weights cannot be had: ResNet-18 from a file of random ones.

    python benchmarks/resnet18_random.py [--out results/random_weights]

It shows that the report's run goes through from a file (what is trained, what stays frozen, how
long it takes); its accuracy says nothing about transfer learning.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from runs import parser_of, run_once
from torchvision.models import resnet18

from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import experiment_of
from cifarzoo.report.words import duration

KEY = "resnet18_transfer"


def main() -> None:
    """Write the file, run the experiment unless it is recorded, and print what came of it."""
    options = parser_of(__doc__, out="results/random_weights", seeds="0").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "resnet18-random.pth"
        torch.manual_seed(0)
        torch.save(resnet18(weights=None).state_dict(), weights)
        conditions = Conditions(folder=options.out, weights=weights, progress=not options.quiet)
        for seed in options.seeds:
            found = run_once(experiment_of(KEY), seed, conditions)
            assert found.test is not None
            print(
                f"seed {seed}: {found.trainable:,} of {found.params:,} parameters trained, "
                f"{found.history.steps:,} steps, {duration(found.history.seconds)} of training; "
                f"test accuracy {found.test.accuracy:.2%}"
            )


if __name__ == "__main__":
    main()
