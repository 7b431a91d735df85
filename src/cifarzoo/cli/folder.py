"""The folder of a run: what lies in it, and whether it belongs to the run that is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cifarzoo.cli.records import Record, finite
from cifarzoo.errors import CheckpointError, OptionError, differences
from cifarzoo.files import read_object, replacing
from cifarzoo.report.runs import RUN_FILE, BegunRun, FinishedRun

__all__ = ["RunFolder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Where a run writes.

    The record `run.json` is there from the first step on, so that whatever is found later beside
    it (a checkpoint, weights) is known to be of that run.

    Attributes:
        path: of the folder.
        settings: what makes the run's result: model, data, seed, recipe and the like.
    """

    path: Path
    settings: Record

    @property
    def weights(self) -> Path:
        """The trained weights; of a run that diverged, its best state."""
        return self.path / "weights.safetensors"

    @property
    def record(self) -> Path:
        """Settings, history and scores."""
        return self.path / RUN_FILE

    @property
    def curves(self) -> Path:
        """Loss and accuracy over the run."""
        return self.path / "curves.png"

    @property
    def examples(self) -> Path:
        """Test images, and what the model takes them for."""
        return self.path / "predictions.png"

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished run, unless the user names another file for it."""
        return self.path / "checkpoint.pt"

    @property
    def _files(self) -> tuple[Path, ...]:
        return self.weights, self.record, self.curves, self.examples, self.checkpoint

    def clear(self) -> None:
        """Delete what a run wrote here, and nothing else."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def finished(self) -> Record | None:
        """Give the record of this very run if it was finished before.

        Raises:
            CheckpointError: the folder holds another run, or a record that cannot be read.
            OptionError: it holds files that no run's record goes with.
        """
        if not self.record.is_file():
            self._require_no_files()
            return None
        stored = _read(self.record)
        if not self.weights.exists() and not self.checkpoint.exists():
            return None  # nothing of that run is left to lose
        self._require_same(stored["settings"])
        done = stored.get("finished") is not None and self.weights.is_file()
        return stored if done else None

    def require_place(self) -> None:
        """Refuse a folder that cannot be made or written, and make nothing.

        Raises:
            OptionError: it is a file, lies below one, or the user may not write there.
        """
        places = (self.path, *self.path.absolute().parents)
        place = next(path for path in places if path.exists())
        if not place.is_dir():
            raise self._unfit(f"{place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            raise self._unfit(f"no permission to write in {place}")

    def _unfit(self, reason: object) -> OptionError:
        return OptionError(
            f"the folder {self.path} cannot be written ({reason}); choose another with --out"
        )

    def begin(self, environment: Record) -> None:
        """Make the folder and write the record of a run that is not finished.

        Raises:
            OptionError: the folder cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write({"finished": None, "settings": self.settings, "environment": environment})
        except OSError as error:
            raise self._unfit(error) from error

    def finish(self, result: Record) -> Record:
        """Write the record of a run that is over, and give it.

        Args:
            result: what is known now: environment, history, scores.
        """
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        record = {"finished": now, "settings": self.settings, **result}
        self._write(record)
        return record

    def amend(self, record: Record) -> None:
        """Write the record of a finished run anew, with what was measured since.

        Args:
            record: as `finished` gave it, and what is new.
        """
        self._write(record)

    def stop(self, result: Record) -> None:
        """Write the record of a run that could not be finished.

        Args:
            result: what is known now: environment, history.
        """
        self._write({"finished": None, "settings": self.settings, **result})

    def _write(self, record: Record) -> None:
        text = json.dumps(finite(record), indent=1)
        with replacing(self.record) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _require_no_files(self) -> None:
        found = [file.name for file in self._files if file.exists()]
        if found:
            raise OptionError(
                f"{self.path} holds {', '.join(found)}, but no {RUN_FILE} that says what they are; "
                "choose another folder with --out, or replace them with --fresh"
            )

    def _require_same(self, stored: Mapping[str, object]) -> None:
        differ = differences(stored, json.loads(json.dumps(self.settings)))
        if differ:
            raise CheckpointError(
                f"{self.path} holds another run ({'; '.join(differ)}); choose another folder "
                "with --out, or replace that run with --fresh"
            )


def _read(path: Path) -> Record:
    import msgspec

    try:
        stored: Record = read_object(path)
        msgspec.convert(stored, BegunRun if stored.get("finished") is None else FinishedRun)
    except (OSError, ValueError) as error:  # so are errors of JSON, Unicode, msgspec
        raise CheckpointError(
            f"{path} cannot be read as the record of a run ({type(error).__name__}: {error}); "
            "choose another folder with --out, or replace what is there with --fresh"
        ) from error
    return stored
