"""Runs of one experiment, summed up and set beside the report's figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cifarzoo.errors import ResultsError
from cifarzoo.evaluation.statistics import Estimate, mean_and_std, paired_difference
from cifarzoo.report.course import Course, course_of
from cifarzoo.report.experiments import (
    ABLATION,
    BASELINE_KEY,
    EXPERIMENTS,
    Experiment,
    Reported,
)
from cifarzoo.report.folder import Results
from cifarzoo.report.record import Failure, Record
from cifarzoo.training.history import History

__all__ = ["Change", "FigureName", "Summary", "Verdict", "ablation", "change", "summaries"]

FigureName: TypeAlias = Literal[
    "train_loss", "train_accuracy", "val_accuracy", "test_accuracy", "steps"
]
Verdict: TypeAlias = Literal["better", "worse", "no clear difference", "one seed", "not run"]


def _figure(record: Record, name: FigureName) -> float | None:
    if name == "steps":
        return float(record.history.steps)
    if name == "train_loss":
        return None if record.train is None else record.train.loss
    splits = {"train_accuracy": record.train, "val_accuracy": record.val}
    scores = splits.get(name, record.test)
    return None if scores is None else scores.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is known of one experiment.

    Attributes:
        key: of the experiment.
        title: what tables call it.
        task: of the report.
        reported: the report's figures, if it gives any.
        says: what the report says in words.
        records: the runs, in the order of their seeds; empty where it was not run.
        failure: why a run could not be done, the newest; None where none failed.
    """

    key: str
    title: str
    task: str
    reported: Reported | None
    says: str
    records: tuple[Record, ...]
    failure: Failure | None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were run."""
        return tuple(record.seed for record in self.records)

    @property
    def histories(self) -> tuple[History, ...]:
        """The runs that were checked at least once, check by check."""
        return tuple(record.history for record in self.records if record.history.checks)

    @property
    def course(self) -> Course | None:
        """How training went; None where there is no run, or one without a validation split."""
        return course_of(self.histories)

    def estimate(self, name: FigureName) -> Estimate | None:
        """Give the mean over the seeds; None where it was not measured."""
        values = self._values(name).values()
        return mean_and_std(list(values)) if values else None

    def reported_figure(self, name: FigureName) -> float | None:
        """Give the report's figure, if it gives one."""
        return None if self.reported is None else getattr(self.reported, name)

    def difference(self, name: FigureName) -> float | None:
        """Give our mean less the report's figure; None where one is missing."""
        ours, theirs = self.estimate(name), self.reported_figure(name)
        return None if ours is None or theirs is None else ours.mean - theirs

    def _values(self, name: FigureName) -> dict[int, float]:
        """Give the figure of each seed that has it."""
        figures = ((record.seed, _figure(record, name)) for record in self.records)
        return {seed: figure for seed, figure in figures if figure is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one change does to the test accuracy.

    Attributes:
        after: the experiment with the change.
        difference: with the change less without it, seed by seed; None where no seed has both.
    """

    after: Summary
    difference: Estimate | None

    @property
    def verdict(self) -> Verdict:
        """Tell whether the 95 % interval of the difference leaves out zero."""
        found = self.difference
        if found is None:
            return "not run"
        if found.low is None or found.high is None:
            return "one seed"
        return "better" if found.low > 0 else "worse" if found.high < 0 else "no clear difference"


def change(after: Summary, before: Summary) -> Change:
    """Compare two experiments over the seeds that both have."""
    new, old = after._values("test_accuracy"), before._values("test_accuracy")
    seeds = sorted(new.keys() & old.keys())
    difference = (
        paired_difference([new[seed] for seed in seeds], [old[seed] for seed in seeds])
        if seeds
        else None
    )
    return Change(after=after, difference=difference)


def ablation(found: dict[str, Summary]) -> tuple[Change, ...]:
    """Compare every changed baseline with the baseline."""
    return tuple(change(found[each.key], found[BASELINE_KEY]) for each in ABLATION)


def summaries(results: Results) -> dict[str, Summary]:
    """Sum up the report's experiments, run or not, then what else a folder holds.

    Raises:
        ResultsError: runs that cannot be averaged: of different data, modes or recipes.
    """
    _require_alike(results.records, lambda record: f"{record.data}, {record.mode}", "data sets")
    known = {each.key: _summary(each, results) for each in EXPERIMENTS}
    others = {record.key: record for record in results.records if record.key not in known}
    return known | {key: _summary(record, results) for key, record in others.items()}


def _summary(source: Experiment | Record, results: Results) -> Summary:
    records = results.of(source.key)
    _require_alike(records, lambda record: f"{record.recipe} {record.network}", "recipes")
    known = source if isinstance(source, Experiment) else None
    return Summary(
        key=source.key,
        title=source.title,
        task=source.task,
        reported=None if known is None else known.reported,
        says=known.says if known else "",
        records=records,
        failure=results.failure_of(source.key),
    )


def _require_alike(records: Iterable[Record], kind: Callable[[Record], str], what: str) -> None:
    """Refuse to average runs that differ in more than their seed."""
    examples = {kind(record): f"{record.key}-seed{record.seed}.json" for record in records}
    if len(examples) > 1:
        listed = "; ".join(f"{file}: {name}" for name, file in examples.items())
        raise ResultsError(
            f"the results are of different {what} ({listed}); move them into folders of their own"
        )
