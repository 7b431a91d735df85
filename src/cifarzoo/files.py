"""Files that are never half written, and never half read."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing", "require_whole_zip"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end of the block it takes the place of `path`.

    Whoever reads `path`, whenever the process is killed, finds what was there before or all that
    is new: the content is flushed to the disk before the file is renamed. A killed process leaves
    its temporary file, which the next one writes over.

    Args:
        path: of the file; its folder is made if it is not there.

    Raises:
        OSError: the file cannot be written; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder may be what is wrong
            temporary.unlink()
        raise


def require_whole_zip(path: Path) -> None:
    """Check a zip file, which torch's are, against the checksums in it.

    Raises:
        zipfile.BadZipFile: it is not whole, or was changed.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} was changed")
