"""The sprint family, trained from nothing over several seeds: seconds and accuracy.

    python benchmarks/sprint.py --models sprint_s,sprint_m [--seeds 0,1,2,3,4]

Each run is trained by its card's recipe on all 50,000 training images, ends with its last state,
and is scored once over the test set, from a single view and with test-time augmentation. The
seconds are those of training: the first layer is computed from images and every epoch's checkpoint
written in them, but not loading, scoring and the first import. Records lie in results/sprint/, one
a run; what is recorded already is not run again. A GPU has a folder of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from runs import folder_of, parser_of, run_once
from standings import percent

import cifarzoo as zoo
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import Experiment
from cifarzoo.report.record import Record
from cifarzoo.spec import TtaName

TTA: TtaName = "flip_translate"
BARS = {"sprint_s": (0.8872, None), "sprint_m": (0.933, 0.94), "sprint_l": (None, 0.96)}


def record_of(name: str, seed: int, conditions: Conditions) -> Record:
    """Read one run, or make it."""
    card = zoo.model_card(name)
    experiment = Experiment(key=name, title=name, task="", card=card)
    found = run_once(experiment, seed, conditions)
    assert found.test is not None
    assert found.test_tta is not None
    print(
        f"{name}, seed {seed}: {found.history.seconds:.1f} s of training, "
        f"{found.test.accuracy:.2%} from a single view, {found.test_tta.accuracy:.2%} with {TTA}",
        flush=True,
    )
    return found


def summary(name: str, records: Sequence[Record]) -> str:
    """Write the means over the seeds, and the bars."""
    single = [record.test.accuracy for record in records if record.test is not None]
    views = [record.test_tta.accuracy for record in records if record.test_tta is not None]
    seconds = [record.history.seconds for record in records]
    parts = [
        f"{name}: median {statistics.median(seconds):.1f} s "
        f"({min(seconds):.1f} to {max(seconds):.1f})"
    ]
    for label, values, bar in zip(
        ("single view", TTA), (single, views), BARS.get(name, (None, None)), strict=True
    ):
        wanted = "" if bar is None else f" (bar {bar:.2%})"
        parts.append(f"{label} {percent(values)}{wanted}")
    return ", ".join(parts)


def main() -> None:
    """Run what is not recorded yet, print the table."""
    parser = parser_of(__doc__, out="results/sprint", seeds="0,1,2,3,4")
    parser.add_argument("--models", default="sprint_s,sprint_m")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    conditions = Conditions(
        folder=folder_of(options.out, options.device),
        device=options.device,
        tta=TTA,
        progress=not options.quiet,
    )
    table = {
        name: [record_of(name, seed, conditions) for seed in options.seeds]
        for name in options.models.split(",")
    }
    for name, records in table.items():
        print(summary(name, records))


if __name__ == "__main__":
    main()
