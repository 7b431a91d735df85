"""Checkpoints: the whole state of a run in one file that is never half written."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from cifarzoo.errors import CheckpointError, differences
from cifarzoo.files import replacing, require_whole_zip

__all__ = ["Payload", "load_checkpoint", "save_checkpoint"]

Payload: TypeAlias = dict[str, object]

FORMAT = 2
SHOWN = 4  # differences between two runs


def save_checkpoint(path: Path, payload: Mapping[str, object], identity: Payload) -> None:
    """Write a checkpoint: to a temporary file, flushed to the disk, read back, then renamed.

    Whenever the process is killed, the file is either the checkpoint before or this one.

    Args:
        path: of the file; its folder is made if it is not there.
        payload: tensors, numbers, strings, and lists and dictionaries of them.
        identity: what the run is; `load_checkpoint` asks for the same again.

    Raises:
        CheckpointError: the file cannot be written; the one before is intact.
    """
    try:
        with replacing(path, verify=_loaded) as temporary:
            _write(temporary, {"format": FORMAT, "identity": identity, "payload": dict(payload)})
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"cannot write the checkpoint {path} ({error}); free space or choose another path; "
            "the checkpoint before it, if any, is intact"
        ) from error
    except pickle.PickleError as error:
        raise CheckpointError(
            f"the checkpoint {path} was not written, for it could not be read again: the model's "
            "state_dict, or what its get_extra_state() gives, holds more than tensors and plain "
            "values; the checkpoint before it, if any, is intact"
        ) from error


class _Telling(io.FileIO):
    """A file that keeps what the disk said; torch does not pass it on."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - whatever bytes torch gives
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = error
            raise
        return size


def _write(path: Path, content: Payload) -> None:
    with _Telling(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if file.failure is not None:
                raise file.failure from error
            raise


def load_checkpoint(path: Path, identity: Payload) -> Payload | None:
    """Read a checkpoint of the run that `identity` describes.

    Args:
        path: of the file.
        identity: must equal the one it was saved with.

    Returns:
        The payload, its tensors on the CPU; None if there is no file.

    Raises:
        CheckpointError: the file is damaged, of another format, or of another run.
    """
    if not path.exists():
        return None
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise CheckpointError(f"{path} is {kind}; give the path of a file as checkpoint")
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); mend its permissions, or give another path"
        ) from error
    stored = _read(path)
    version = stored["format"]
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {version!r}; this version of cifarzoo reads {FORMAT}"
        )
    _require_same(path, stored["identity"], identity)
    return dict(stored["payload"])


def _read(path: Path) -> dict[str, Any]:
    reason = "it holds something else"
    try:
        stored = _loaded(path)
    except Exception as error:  # damaged bytes can raise whatever a parser raises
        reason, stored = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", None
    kinds = {"format": int, "identity": dict, "payload": dict}
    if isinstance(stored, dict) and all(isinstance(stored.get(k), t) for k, t in kinds.items()):
        identity: dict[object, object] = stored["identity"]
        if all(isinstance(key, str) for key in identity) and all(
            isinstance(value, str | int | None) for value in identity.values()
        ):
            # Older ones name parts of a recipe that are not there.
            kept = {key: value for key, value in identity.items() if value != "None"}
            return {**stored, "identity": kept}
    raise CheckpointError(
        f"{path} cannot be read as a checkpoint ({reason}); delete it to start the run anew, or "
        "give another path"
    )


def _loaded(path: Path) -> Any:  # noqa: ANN401 - whatever a file holds
    require_whole_zip(path)  # torch itself does not look at the checksums
    return torch.load(path, map_location="cpu", weights_only=True)


def _require_same(path: Path, stored: Payload, wanted: Payload) -> None:
    differ = differences(stored, wanted)
    if differ:
        rest = len(differ) - SHOWN
        more = f"; and {rest} more" if rest > 0 else ""
        way_out = "give another path, or delete it"
        differing = [key for key in stored | wanted if stored.get(key) != wanted.get(key)]
        if differing == ["processes"]:
            way_out = f"start as many as before (torchrun --nproc-per-node), {way_out}"
        if differing == ["precision"]:
            way_out = f"go on in precision={stored.get('precision')!r} (--precision), {way_out}"
        raise CheckpointError(
            f"{path} belongs to another run ({'; '.join(differ[:SHOWN])}{more}); {way_out}"
        )
