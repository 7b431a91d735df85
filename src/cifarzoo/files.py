"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replace_file", "write_text"]


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` atomically after the block.

    Even if the process is killed, a reader finds either the old content or the new. With concurrent
    writers, the last rename wins.

    Args:
        path: file to write; missing parent folders are created.

    Raises:
        OSError: the file cannot be written; the old content is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
