"""Which of a model's recorded runs is put into the package: the median one."""

from __future__ import annotations

import functools
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from cifarzoo.errors import ResultsError, WeightsError
from cifarzoo.evaluation.statistics import mean_and_std
from cifarzoo.files import replacing
from cifarzoo.registry import forget_weights
from cifarzoo.report.folder import load_results
from cifarzoo.report.record import Record, Scores
from cifarzoo.report.recording import SIX_VIEWS, Recording
from cifarzoo.report.zoo import file_of, recorded
from cifarzoo.spec import Weights
from cifarzoo.weights import packaged_file, verify
from cifarzoo.weights.packaged import write_description

__all__ = ["median_run", "pack", "pack_recording", "recorded_runs"]


def _test_of(record: Record) -> Scores:
    if record.test is None:
        raise ResultsError(f"the run of {record.key} with seed {record.seed} has no test score")
    return record.test


def median_run(records: Sequence[Record]) -> Record:
    """Give the run of the median test accuracy; of an even number the lower one of the middle two.

    It stands for what a reader would get, as the best one does not. Of equal runs the one with the
    lower seed comes first.

    Raises:
        ResultsError: there is no run, or one has no test score.
    """
    if not records:
        raise ResultsError("there are no runs to choose from; record at least one seed")
    ordered = sorted(records, key=lambda record: (_test_of(record).accuracy, record.seed))
    return ordered[(len(ordered) - 1) // 2]


def pack(
    name: str,
    tag: str,
    records: Sequence[Record],
    file_of: Callable[[Record], Path],
    folder: Path | None = None,
) -> Weights:
    """Put the median run's weights, and what is known of them, into the package.

    Args:
        name: of the model.
        tag: of the weights.
        records: the finished runs, one a seed.
        file_of: gives the weights of a run, as they were scored; asked for the median one alone.
        folder: another one than the package's own.

    Returns:
        What is written beside the file.

    Raises:
        ResultsError: the runs differ in more than their seed, or there is none.
        WeightsError: the file is not the one that was scored, or cannot be written.
    """
    shipped = median_run(records)
    _require_alike(records)
    path = packaged_file(name, tag, folder)
    scored = file_of(shipped)
    verify(scored, sha256=str(shipped.sha256))
    weights = _description(tag, records, shipped, scored.stat().st_size)
    try:
        with replacing(path) as temporary:
            shutil.copyfile(scored, temporary)
    except OSError as error:
        raise WeightsError(f"cannot write {path} ({error})") from error
    write_description(name, weights, folder)
    forget_weights()
    return weights


def pack_recording(recording: Recording) -> Weights:
    """Put the median of all recorded runs, also of seeds not asked for, into the package.

    Raises:
        And what `recorded_runs`, `file_of` and `pack` raise.
    """
    own = functools.partial(file_of, recording)
    return pack(recording.card.name, recording.tag, recorded_runs(recording), own)


def recorded_runs(recording: Recording) -> list[Record]:
    """Give all runs that are recorded under a recording's name, also of seeds not asked for.

    Raises:
        ResultsError: a record is damaged, or of another run, or they differ in more than the seed.
        WeightsError: a run's weights in the work folder were changed.
    """
    if not recording.results.is_dir():
        return []
    seeds = [each.seed for each in load_results(recording.results).of(recording.key)]
    found = [each for each in (recorded(recording, seed) for seed in seeds) if each is not None]
    _require_alike(found)
    return found


def _require_alike(records: Sequence[Record]) -> None:
    seeds = [record.seed for record in records]
    kinds = [
        (each.key, each.recipe, each.network, each.data, each.weights, each.teacher)
        for each in records
    ]
    if len(set(seeds)) != len(seeds) or any(kind != kinds[0] for kind in kinds):
        raise ResultsError(
            f"the runs of {records[0].key} with seeds {seeds} differ in more than their seed; "
            "needed are runs of one recipe, each seed once"
        )


def _machines_of(records: Sequence[Record]) -> list[str]:
    found: list[str] = []
    for record in records:
        if record.machines or record.total_seconds is not None:
            found += record.machines or (str(record.machine),)
        else:  # it was resumed, and the list of its parts is lost
            found.append(f"{record.machine} (earlier parts: not known)")
    return found


def _description(tag: str, records: Sequence[Record], shipped: Record, size_bytes: int) -> Weights:
    estimate = mean_and_std([_test_of(record).accuracy for record in records])
    views = shipped.test_tta
    return Weights(
        tag=tag,
        sha256=str(shipped.sha256),
        size_bytes=size_bytes,
        accuracy=_test_of(shipped).accuracy,
        interval=_test_of(shipped).interval,
        mean=estimate.mean,
        std=estimate.std,
        seeds=tuple(sorted(record.seed for record in records)),
        seed=shipped.seed,
        recipe=shipped.recipe,
        seconds=statistics.median(record.history.seconds for record in records),
        machine="; ".join(dict.fromkeys(_machines_of(records))),
        views=None if views is None or views.tta != SIX_VIEWS else views.accuracy,
    )
