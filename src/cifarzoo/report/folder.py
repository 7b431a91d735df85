"""A folder of results: one JSON file a run, each written whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cifarzoo.errors import ResultsError
from cifarzoo.files import read_object, replacing
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.runs import RUN_FILE
from cifarzoo.spec import to_path

__all__ = [
    "SCHEMA",
    "Results",
    "load_results",
    "read_record",
    "record_path",
    "remove_failure",
    "write_bytes",
    "write_failure",
    "write_record",
    "write_text",
]

SCHEMA = 1

_RECORD = re.compile(r"(?P<key>[a-z][a-z0-9_]*)-seed(?P<seed>\d+)\.json")
_FAILURE = re.compile(r"(?P<key>[a-z][a-z0-9_]*)-seed(?P<seed>\d+)\.error\.json")
_LIST_OF_PLAIN = re.compile(r"\[[^\[\]{}\"]*\]")

T = TypeVar("T", Record, Failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a folder of results holds.

    Attributes:
        records: finished runs, by key and seed.
        failures: runs that could not be done, by key and seed.
    """

    records: tuple[Record, ...]
    failures: tuple[Failure, ...]

    def of(self, key: str) -> tuple[Record, ...]:
        """Give the runs of one experiment, in the order of their seeds; none where none was run."""
        return tuple(record for record in self.records if record.key == key)

    def failure_of(self, key: str) -> Failure | None:
        """Give the newest failure of one experiment, if there is one."""
        failures = [failure for failure in self.failures if failure.key == key]
        return max(failures, key=lambda failure: failure.date, default=None)


def record_path(folder: Path, key: str, seed: int) -> Path:
    """Give the path of a run's file."""
    return folder / f"{key}-seed{seed}.json"


def _failure_path(folder: Path, key: str, seed: int) -> Path:
    return folder / f"{key}-seed{seed}.error.json"


def write_record(record: Record, folder: Path) -> Path:
    """Write a run's file, and take away the note of an earlier failure.

    Raises:
        ResultsError: the file cannot be written.
    """
    path = record_path(folder, record.key, record.seed)
    _write(path, asdict(record))
    remove_failure(folder, record.key, record.seed)
    return path


def write_failure(failure: Failure, folder: Path) -> Path:
    """Write the note that a run could not be done.

    Raises:
        ResultsError: the file cannot be written.
    """
    path = _failure_path(folder, failure.key, failure.seed)
    _write(path, asdict(failure))
    return path


def remove_failure(folder: Path, key: str, seed: int) -> None:
    """Take away the note of an earlier failure, if there is one."""
    _failure_path(folder, key, seed).unlink(missing_ok=True)


def read_record(path: Path) -> Record:
    """Read a run's file.

    Raises:
        ResultsError: the file is damaged, of another version, or its name is not its run's.
    """
    return _read(path, Record)


def load_results(folder: str | Path) -> Results:
    """Read a folder of results; files with other names are left alone.

    Raises:
        OptionError: folder is no path that there can be.
        ResultsError: there is no such folder, a file in it is damaged, or it holds no records and
            what `cifarzoo train` leaves of runs.
    """
    folder = to_path("folder", folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise ResultsError(
            f"{folder} {found}; needed is a folder of results, as `cifarzoo report --out` makes it"
        )
    files = sorted(path for path in folder.iterdir() if path.is_file())
    records = [_read(path, Record) for path in files if _RECORD.fullmatch(path.name)]
    failures = [_read(path, Failure) for path in files if _FAILURE.fullmatch(path.name)]
    if not records and (any(folder.glob(RUN_FILE)) or any(folder.glob(f"*/{RUN_FILE}"))):
        raise ResultsError(
            f"{folder} holds no records, but what `cifarzoo train` leaves of runs; read that with "
            f"cifarzoo.report.load_runs({str(folder)!r})"
        )
    return Results(
        records=tuple(sorted(records, key=lambda record: (record.key, record.seed))),
        failures=tuple(sorted(failures, key=lambda failure: (failure.key, failure.seed))),
    )


def _read(path: Path, kind: type[T]) -> T:
    import msgspec

    try:
        content = read_object(path)
        found = content.pop("schema", None)
        if found != SCHEMA:
            raise ValueError(f"it has schema {found!r}; this version of cifarzoo reads {SCHEMA}")
        result = msgspec.convert(content, kind)
        if path.name.partition(".")[0] != f"{result.key}-seed{result.seed}":
            raise ValueError(f"it is the run of {result.key} with seed {result.seed}: rename it")
    except (OSError, ValueError) as error:  # so are errors of JSON, Unicode, msgspec
        raise ResultsError(
            f"{path} cannot be read as a result: {error}. Delete it to have it run again"
        ) from error
    return result


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        text = json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False)
    except ValueError as error:
        raise ResultsError(f"{path} was not written: a figure is not finite ({error})") from error
    write_text(path, _LIST_OF_PLAIN.sub(_on_one_line, text) + "\n")


def _on_one_line(found: re.Match[str]) -> str:
    return " ".join(found.group().split()).replace("[ ", "[").replace(" ]", "]")


def write_text(path: Path, text: str) -> None:
    """Write a text file; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: whoever reads it sees what was there before, or all that is new.

    Raises:
        ResultsError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ResultsError(
            f"cannot write {path} ({error}); free space, or choose another folder"
        ) from error
