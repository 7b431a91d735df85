"""Downloads with retries, a size limit and a hash check."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from typing_extensions import Buffer, override

from cifarzoo.device import is_interactive
from cifarzoo.errors import DataCorruptError

__all__ = ["download"]

CHUNK_BYTES = 2**16
RETRIES = 2  # per URL, after 1 and 2 seconds


def download(
    urls: Iterable[str], path: Path, *, known_hash: str, size_bytes: int, timeout: float = 20.0
) -> list[str]:
    """Download a file from the first URL that has it, unless it is there already.

    If several processes call this at once, one downloads while the others wait. The file appears at
    `path` when it is complete and verified; partial files of killed processes are deleted.

    Args:
        urls: tried in this order.
        path: where the file is written; missing parent folders are created.
        known_hash: hash of the file, prefixed with its algorithm, such as "md5:c58f…".
        size_bytes: size of the file; a larger download is aborted.
        timeout: seconds to wait for an answer.

    Returns:
        Why each URL failed, one line per URL; empty if the file is there.
    """
    import filelock
    import pooch

    http = pooch.HTTPDownloader(
        progressbar=is_interactive(),
        chunk_size=CHUNK_BYTES,
        timeout=timeout,
        # By default a server may send gzip data, which requests decompresses.
        headers={"Accept-Encoding": "identity"},
    )

    def limited(url: str, output_file: str, caller: object) -> None:
        with _LimitedFile(output_file, "w") as file:
            file.limit_bytes = size_bytes
            http(url, file, caller)

    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / ".cifarzoo.lock"):
            for url in [] if path.is_file() else urls:
                try:
                    _fetch(url, path, known_hash, limited)
                except (ValueError, OSError) as error:
                    if isinstance(error, OSError) and error.errno is not None:
                        raise  # from the file system: requests' errors have no errno
                    failures.append(f"{url}: {' '.join(str(error).split())}")
                else:
                    return []
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        return [f"cannot write to {path.parent}: {error}"]
    return failures


def _fetch(url: str, path: Path, known_hash: str, downloader: Callable[..., Any]) -> None:
    import pooch

    partial = path.with_name(f".{path.name}-download")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    try:
        pooch.create(
            partial,
            base_url="",
            registry={path.name: known_hash},
            urls={path.name: url},
            retry_if_failed=RETRIES,
        ).fetch(path.name, downloader=downloader)
        (partial / path.name).replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _LimitedFile(io.FileIO):
    """A file that raises before it grows past a limit."""

    limit_bytes = 0

    @override
    def write(self, data: Buffer, /) -> int:
        if self.tell() + len(memoryview(data)) > self.limit_bytes:
            raise DataCorruptError(f"received more than the expected {self.limit_bytes:,} bytes")
        return super().write(data)
