"""What bfloat16 costs in accuracy: the report's recipes in both precisions, seed by seed.

    python benchmarks/precision.py [--keys baseline,best] [--seeds 0,1,2]

Runs in the default precision lie in results/, where `cifarzoo report` puts them; those in float32
lie in results/float32/. What is recorded already is not run again. A seed gives both runs the same
initial weights, order and dropout, so the difference is taken pair by pair.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from runs import parser_of, run_once

import cifarzoo as zoo
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import experiment_of
from cifarzoo.report.record import Record
from cifarzoo.report.words import interval, plus_minus


def record_of(key: str, seed: int, conditions: Conditions) -> Record:
    """Read one run, or make it."""
    found = run_once(experiment_of(key), seed, conditions)
    print(f"{key}, seed {seed}, {found.machine.precision}: {_test(found):.2%}", flush=True)
    return found


def compare(
    key: str, seeds: Sequence[int], default: Conditions, plain: Conditions
) -> dict[str, object]:
    """Compare the test accuracies of one experiment."""
    ours = [record_of(key, seed, default) for seed in seeds]
    theirs = [record_of(key, seed, plain) for seed in seeds]
    for records, conditions, needed in ((ours, default, "bfloat16"), (theirs, plain, "float32")):
        kinds = {record.machine.precision for record in records}
        if kinds != {needed}:
            sys.exit(f"the runs of {key} in {conditions.folder} are in {', '.join(kinds)}")
    after, before = [_test(each) for each in ours], [_test(each) for each in theirs]
    found = {
        "bfloat16": zoo.mean_and_std(after),
        "float32": zoo.mean_and_std(before),
        "difference": zoo.paired_difference(after, before),
    }
    print(
        f"{key}: bfloat16 {plus_minus(found['bfloat16'], 2, 100)} %, float32 "
        f"{plus_minus(found['float32'], 2, 100)} %, difference "
        f"{plus_minus(found['difference'], 2, 100)} points, 95 % interval "
        f"{interval(found['difference'], 2, 100)}"
    )
    return {"seeds": seeds, **{name: asdict(estimate) for name, estimate in found.items()}}


def _test(record: Record) -> float:
    assert record.test is not None
    return record.test.accuracy


def main() -> None:
    """Run what is not recorded yet, print the comparison, write it to results/."""
    parser = parser_of(__doc__, out="results", seeds="0,1,2")
    parser.add_argument("--keys", default="baseline,best")
    options = parser.parse_args()
    default = Conditions(folder=options.out, progress=not options.quiet)
    plain = Conditions(
        folder=options.out / "float32", precision="float32", progress=not options.quiet
    )
    keys = options.keys.split(",")
    compared = {key: compare(key, options.seeds, default, plain) for key in keys}
    text = json.dumps(compared, indent=1)
    (options.out / "benchmark-precision.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
