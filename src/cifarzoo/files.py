"""Files that are never half written, and never half read."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["read_object", "replacing", "require_whole_zip"]


@contextlib.contextmanager
def replacing(path: Path, *, verify: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; at the end of the block it takes the place of `path`.

    Whoever reads `path`, whenever the process is killed, finds what was there before or all that
    is new: the content is flushed to the disk before the file is renamed, and its folder after
    that. A killed process leaves its temporary file, which the next one writes over.

    Args:
        path: of the file; its folder is made if it is not there.
        verify: reads the temporary file, before it takes any place, and raises an error if it is
            not whole. None looks at nothing.

    Raises:
        OSError: the file cannot be written; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder may be what is wrong
            temporary.unlink()
        raise


def _flush_folder(folder: Path) -> None:
    """Write a folder's names to the disk, where the system can: else a crash may undo a rename."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems cannot, some folders are shut
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_whole_zip(path: Path) -> None:
    """Check a zip file, which torch's are, against the checksums in it.

    Raises:
        zipfile.BadZipFile: it is not whole, or was changed.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} was changed")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON (which knows no NaN), is nested too deeply, or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it does not hold an object")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is not JSON")
