"""Files from hosts that may be slow, break off or lie: bounded, checked, and whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cifarzoo.errors import LONGEST, DataCorruptError
from cifarzoo.hardware import is_watched

__all__ = ["Patience", "RemoteFile", "fetch"]

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a host is asked again, a second later, then two, and how long its silence lasts."""

    retries: int = 2
    timeout_seconds: float = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """What a file must be: its name, its length, and its hash as pooch writes it, `md5:...`."""

    name: str
    size_bytes: int
    known_hash: str


def fetch(
    file: RemoteFile,
    folder: Path,
    urls: Iterable[str],
    *,
    patience: Patience,
    is_there: Callable[[], bool],
) -> list[str]:
    """Put a file into a folder; of several processes one fetches it, and the others wait.

    Args:
        file: what it must be; never more than its length is written.
        folder: where it goes; made if it is not there. What a killed process left is cleared.
        urls: of hosts, which are asked in their order.
        patience: with each host.
        is_there: says whether another process was first.

    Returns:
        What went wrong, a line for each host; empty where the file is there now.
    """
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".cifarzoo.lock"):
            return [] if is_there() else _from_first_host(file, folder, urls, patience)
    except (OSError, NotImplementedError) as error:  # some file systems know no locks
        return [f"  {folder} cannot be written to: {error}"]


def _from_first_host(
    file: RemoteFile, folder: Path, urls: Iterable[str], patience: Patience
) -> list[str]:
    failures = []
    for url in urls:
        try:
            _from_host(url, file, folder, patience)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's; the network's, which requests raises, have no number
            failures.append(f"  {url}: {error}")
        else:
            return []
    return failures


def _from_host(url: str, file: RemoteFile, folder: Path, patience: Patience) -> None:
    """Fetch and verify one host's file beside its final place, then move it there."""
    import pooch

    # Without "identity" a server may send gzip data that requests would silently unpack.
    http = pooch.HTTPDownloader(
        progressbar=is_watched(),
        chunk_size=CHUNK_BYTES,
        timeout=patience.timeout_seconds,
        headers={"Accept-Encoding": "identity"},
    )

    def checked(url: str, output_file: str, caller: object) -> None:
        with Path(output_file).open("wb") as opened:
            http(url, _Bounded(opened, file.size_bytes), caller)
        _check_received(Path(output_file), file)

    partial = folder / f".{file.name}-download"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    try:
        keeper = pooch.create(
            partial,
            base_url="",
            registry={file.name: file.known_hash},
            urls={file.name: url},
            retry_if_failed=patience.retries,
        )
        keeper.fetch(file.name, downloader=checked)
        (partial / file.name).replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Bounded:
    """A file that refuses to grow past what was published."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit
        self._left = limit

    def write(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise DataCorruptError(f"received more than the {self._limit:,} bytes expected")
        self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


def _check_received(path: Path, file: RemoteFile) -> None:
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        raise DataCorruptError(
            f"received {size_bytes:,} bytes, expected {file.size_bytes:,}{_beginning(path)}"
        )


def _beginning(path: Path) -> str:
    """Show how a text begins, which is what a host sends in the place of a file."""
    with path.open("rb") as opened:
        first = opened.read(LONGEST)
    try:
        text = first.decode()
    except UnicodeDecodeError:
        return ""
    return f"; they begin {text!r}" if text.strip() else ""
