"""How the figures of a page were measured: on what, with which code, how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from cifarzoo.report.record import Record
from cifarzoo.report.summary import Summary

__all__ = ["Measured", "Origin", "Place", "measured", "origins_of"]

Place: TypeAlias = tuple[str, str, str]  # machine, source, versions, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A machine and a state of the code that runs were made with.

    Attributes:
        letter: what the tables call it.
        machine: in words.
        source: commit, or version.
        versions: of Python and the libraries, in words.
        dates: of the first and the last run, in words.
    """

    letter: str
    machine: str
    source: str
    versions: str
    dates: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How the figures of one experiment were measured.

    Attributes:
        summary: the experiment.
        letters: of the origins.
        epochs: passes over the training images, mean over the runs.
        seconds: of training and validating, likewise.
        images_per_second: likewise.
        total_seconds: with loading and scoring, mean over the runs that were not interrupted;
            None where there is none.
        endings: why the runs ended.
    """

    summary: Summary
    letters: str
    epochs: float
    seconds: float
    images_per_second: float
    total_seconds: float | None
    endings: str


def _place(record: Record) -> Place:
    versions = ", ".join(f"{name} {version}" for name, version in record.source.versions.items())
    return str(record.machine), record.source.label, versions


def origins_of(records: Iterable[Record]) -> dict[Place, Origin]:
    """Give every machine and state of the code a letter."""
    dates: dict[Place, list[str]] = {}
    for record in sorted(records, key=lambda record: record.date):
        dates.setdefault(_place(record), []).append(record.date[:10])
    return {
        place: Origin(
            letter=chr(ord("A") + i) if i < 26 else f"Z{i}",
            machine=place[0],
            source=place[1],
            versions=place[2],
            dates=days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}",
        )
        for i, (place, days) in enumerate(dates.items())
    }


def measured(summary: Summary, origins: Mapping[Place, Origin]) -> Measured:
    """Sum up how an experiment was measured; it has at least one run.

    Args:
        summary: the experiment.
        origins: of all runs, as `origins_of` gives them.
    """
    records = summary.records
    histories = [record.history for record in records]
    totals = [record.total_seconds for record in records if record.total_seconds is not None]
    endings = {"epochs": "all epochs", "early": "stopped early"}
    return Measured(
        summary=summary,
        letters=", ".join(sorted({origins[_place(record)].letter for record in records})),
        epochs=fmean(history.checks[-1].epoch if history.checks else 0.0 for history in histories),
        seconds=fmean(history.seconds for history in histories),
        images_per_second=fmean(history.images_per_second for history in histories),
        total_seconds=fmean(totals) if totals else None,
        endings=", ".join(sorted({endings.get(h.stopped, h.stopped) for h in histories})),
    )
