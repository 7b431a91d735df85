"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["flush_to_disk", "replace_file", "write_text"]

# On Windows a virus scanner or indexer may have the old file open for some milliseconds: access
# denied and sharing violation. Other systems have no such codes.
_TRANSIENT = (5, 32)
_WAITS = (0.01, 0.03, 0.1, 0.3, 1.0)  # seconds


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces `path` atomically after the block.

    Even if the process is killed, a reader finds either the old content or the new. With concurrent
    writers, the last rename wins.

    Args:
        path: file to write; missing parent folders are created.

    Raises:
        OSError: the file cannot be written; the old content is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    # "x" fails where something exists, even a link. Unlike tempfile's, the file gets the usual
    # permissions.
    file = temporary.open("xb")
    try:
        with file:
            yield file
            flush_to_disk(file)
        _rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _rename(temporary: Path, path: Path) -> None:
    for wait in _WAITS:
        try:
            temporary.replace(path)
        except OSError as error:
            if getattr(error, "winerror", None) not in _TRANSIENT:
                raise
            time.sleep(wait)
        else:
            return
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with replace_file(path) as file:
        file.write(text.encode())


def flush_to_disk(file: BinaryIO) -> None:
    """Write what is buffered, by Python or by the system."""
    file.flush()
    os.fsync(file.fileno())
