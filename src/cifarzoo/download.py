"""Downloads with retries, a size limit and a hash check."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from cifarzoo.device import seconds_between_updates
from cifarzoo.display import escape
from cifarzoo.errors import DataCorruptError
from cifarzoo.files import replace_file

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

    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / ".cifarzoo.lock"):
            if path.is_file():
                return []
            for partial in path.parent.glob(f".{path.name}.*.partial"):  # of killed processes
                partial.unlink()
            for url in urls:
                failure = _fetch(url, path, known_hash, size_bytes, timeout)
                if not failure:
                    return []
                failures.append(escape(f"{url}: {failure}"))
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        return [f"cannot write to {path.parent}: {error}"]
    return failures


def _fetch(url: str, path: Path, known_hash: str, size_bytes: int, timeout: float) -> str:
    """Download a file, with retries; return why it failed, or an empty string."""
    reason = ""
    for attempt in range(1 + RETRIES):
        if attempt:
            time.sleep(attempt)
        try:
            _fetch_once(url, path, known_hash, size_bytes, timeout)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # from the file system: requests' errors have no errno
            reason = " ".join(str(error).split())
        else:
            return ""
    return reason


def _fetch_once(url: str, path: Path, known_hash: str, size_bytes: int, timeout: float) -> None:
    import requests
    from tqdm.auto import tqdm

    algorithm, _, expected = known_hash.partition(":")
    found = hashlib.new(algorithm)
    bar = tqdm(
        desc=path.name,
        total=size_bytes,
        unit="B",
        unit_scale=True,
        leave=False,
        mininterval=seconds_between_updates(),
    )
    # By default a server may send gzip data, which requests decompresses.
    headers = {"Accept-Encoding": "identity"}
    with (
        bar,
        requests.get(url, stream=True, timeout=timeout, headers=headers) as response,
        replace_file(path) as file,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK_BYTES):
            if file.tell() + len(chunk) > size_bytes:
                raise DataCorruptError(f"received more than the expected {size_bytes:,} bytes")
            file.write(chunk)
            found.update(chunk)
            bar.update(len(chunk))
        if found.hexdigest() != expected:
            raise DataCorruptError(f"{algorithm} {found.hexdigest()} does not match {expected}")
