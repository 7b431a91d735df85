"""Runs that were never run: records with made-up figures, for everything that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.report.experiments import experiment_of
from cifarzoo.report.provenance import Machine, Source
from cifarzoo.report.record import Record, Scores
from cifarzoo.training.history import Check, History


def scores(accuracy: float, n: int = 1000) -> Scores:
    correct = round(accuracy * n)
    wrong = tuple(tuple(correct // 10 if i == j else 1 for j in range(10)) for i in range(10))
    return Scores(
        loss=0.75,
        accuracy=correct / n,
        interval=accuracy_interval(correct, n),
        per_class=(*[accuracy] * 9, None),
        calibration_error=0.05,
        confusion=wrong,
        n=n,
    )


def history(checks: int = 4) -> History:
    listed = tuple(
        Check(
            step=10 * i,
            epoch=i / 2,
            train_loss=2.0 / i,
            train_accuracy=0.2 * i,
            val_loss=1.5 - 0.2 * i + 0.04 * i**2,
            val_accuracy=0.1 * i,
            lr=0.05,
            seconds=float(i),
        )
        for i in range(1, checks + 1)
    )
    return History(
        checks=listed, best_step=20, stopped="early", steps=10 * checks, images=2560, seconds=4.0
    )


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Give a record of an experiment: by default the baseline's first seed, 72 % right."""

    def make(
        key: str = "baseline", seed: int = 0, accuracy: float = 0.72, **changes: object
    ) -> Record:
        experiment = experiment_of(key)
        record = Record(
            key=key,
            title=experiment.title,
            task=experiment.task,
            seed=seed,
            data="cifar10",
            mode="full",
            network="0123456789abcdef",
            params=390_410,
            trainable=390_410,
            recipe=experiment.card.recipe,
            train=scores(accuracy + 0.1),
            val=scores(accuracy + 0.01),
            test=scores(accuracy),
            history=history(),
            machine=Machine(
                processor="A Processor", cores=2, threads=2, device="cpu", precision="float32"
            ),
            source=Source(
                commit="c0ffee" * 6 + "beef", dirty=False, versions={"cifarzoo": "0.1.0"}
            ),
            date=f"2026-01-0{seed + 1}T12:00:00+00:00",
            total_seconds=5.0,
        )
        return replace(record, **changes)  # type: ignore[arg-type]

    return make
