"""Whether a file is the one that was published."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cifarzoo.errors import WeightsError
from cifarzoo.models.state import require_file

__all__ = ["sha256_of", "verify"]


def sha256_of(path: Path) -> str:
    """Hash a file's content: 64 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(
    path: Path,
    *,
    sha256: str,
    size_bytes: int | None = None,
    way_out: str = "delete it and get it anew",
) -> None:
    """Refuse a file that is not the one that was published.

    Args:
        path: of the file.
        sha256: 64 lower-case hex digits.
        size_bytes: its length; None takes any.
        way_out: what the error tells the user to do.

    Raises:
        WeightsError: it is not there, or its length or hash differs.
    """
    require_file(path)
    size = path.stat().st_size
    if size_bytes is not None and size != size_bytes:
        kind = "truncated" if size < size_bytes else "another file"
        raise WeightsError(f"{path} has {size:,} bytes, expected {size_bytes:,}: {kind}; {way_out}")
    found = sha256_of(path)
    if found != sha256:
        raise WeightsError(
            f"{path} has SHA-256 {found}, expected {sha256}: its content was changed; {way_out}"
        )
