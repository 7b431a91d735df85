"""Downloads that go on where they were cut, with a size limit and a hash check."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cifarzoo.device import seconds_between_updates
from cifarzoo.display import escape
from cifarzoo.files import flush_to_disk

if TYPE_CHECKING:
    import requests

__all__ = ["download", "partial_path"]

CHUNK_BYTES = 2**16
PIECE_BYTES = 2**22  # of a range that is fetched next to others
CONNECTIONS = 4
RETRIES = 2  # per URL without any progress, after 1 and 2 seconds
CONNECT_SECONDS = 10
STALLED = 1000  # bytes per second; a slower host counts as silent


class _CutError(Exception):
    """The host did not send all bytes; it may send the rest."""


class _UnusableError(Exception):
    """The host does not have the file."""


def download(
    urls: Iterable[str], path: Path, *, known_hash: str, size_bytes: int, timeout: float = 20.0
) -> list[str]:
    """Download a file from the first URL that has it, unless it is there already.

    The file appears at `path` when it is complete and verified. Until then its beginning is at
    `partial_path(path)`, and this or a later call fetches the rest, from any URL; several ranges at
    once if the host supports them. If several processes call this at once, one downloads while the
    others wait.

    Args:
        urls: tried in this order.
        path: where the file is written; missing parent folders are created.
        known_hash: hash of the file, prefixed with its algorithm, such as "sha256:6d95…".
        size_bytes: size of the file.
        timeout: seconds to wait for an answer.

    Returns:
        Why each URL failed, one line per URL; empty if the file is there.
    """
    import filelock

    failures = []
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / ".cifarzoo.lock"):
            if path.is_file():
                return []
            for url in urls:
                failure = _fetch(_Host(url, size_bytes, timeout), partial, known_hash)
                if not failure:
                    partial.replace(path)
                    return []
                failures.append(escape(f"{url}: {failure}"))
            if partial.is_file() and not partial.stat().st_size:
                partial.unlink()
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        return [f"cannot write to {path.parent}: {error}"]
    return failures


def partial_path(path: Path) -> Path:
    """Return where the beginning of an unfinished download is kept."""
    return path.with_name(f"{path.name}.part")


def _fetch(host: _Host, partial: Path, known_hash: str) -> str:
    """Download the rest of a file; return why it failed, or an empty string."""
    if partial.is_symlink() or (partial.is_file() and partial.stat().st_size > host.size_bytes):
        partial.unlink()
    partial.touch()
    is_from_one_answer = partial.stat().st_size == 0
    reason = _fetch_rest(host, partial)
    if reason:
        return reason
    reason = _verify(partial, known_hash)
    if reason and not (is_from_one_answer and host.cuts == 0):
        # The beginning may be from another host, or from another version of the file.
        partial.touch()
        reason = _fetch_rest(host, partial) or _verify(partial, known_hash)
    return reason


def _fetch_rest(host: _Host, partial: Path) -> str:
    """Append what is missing, with retries; return why that failed, or an empty string."""
    import requests
    from urllib3.exceptions import HTTPError

    failed = 0
    while True:
        start = partial.stat().st_size
        try:
            _append(host, partial)
        except requests.ConnectTimeout as error:  # as where a firewall drops packets
            return _line(error)
        except (_CutError, HTTPError, requests.ConnectionError, requests.Timeout) as error:
            host.cuts += 1
            failed = 1 if partial.stat().st_size > start else failed + 1
            if failed > RETRIES:
                return _line(error)
            time.sleep(failed)
        except (_UnusableError, requests.RequestException, ValueError) as error:
            return _line(error)
        else:
            return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _verify(partial: Path, known_hash: str) -> str:
    """Delete a file with another hash and return why, or return an empty string."""
    algorithm, _, expected = known_hash.partition(":")
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found == expected:
        return ""
    partial.unlink()
    return f"{algorithm} {found} does not match {expected}"


def _append(host: _Host, partial: Path) -> None:
    """Append what is missing of a file; what arrives before an error is kept."""
    from tqdm.auto import tqdm

    with partial.open("r+b") as file:
        start = file.seek(0, os.SEEK_END)
        with tqdm(
            desc=partial.stem,
            total=host.size_bytes,
            initial=start,
            unit="B",
            unit_scale=True,
            leave=False,
            mininterval=seconds_between_updates(),
        ) as bar:
            try:
                is_parallel = host.cuts == 0  # a host may allow one connection only
                if start < host.size_bytes:
                    end = start + PIECE_BYTES if is_parallel else host.size_bytes
                    _append_answer(host, file, min(end, host.size_bytes), bar)
                if file.tell() < host.size_bytes:
                    _append_pieces(host, file, bar)
            finally:
                flush_to_disk(file)


def _append_answer(host: _Host, file: BinaryIO, end: int, bar: Any) -> None:  # noqa: ANN401
    """Append what comes up to `end`, or everything from a host without ranges."""
    start = file.tell()
    try:
        for chunk in host.chunks(start, end):
            file.write(chunk)
            bar.update(len(chunk))
    except _UnusableError:
        file.truncate(start)
        raise


def _append_pieces(host: _Host, file: BinaryIO, bar: Any) -> None:  # noqa: ANN401
    """Append the rest, several pieces at once."""
    starts = iter(range(file.tell(), host.size_bytes, PIECE_BYTES))
    pieces: deque[_Piece] = deque()
    try:
        while True:
            for start in itertools.islice(starts, CONNECTIONS - len(pieces)):
                pieces.append(_Piece(host, start))
                pieces[-1].thread.start()
            if not pieces:
                return
            while pieces[0].thread.is_alive():
                pieces[0].thread.join(0.1)
                bar.update(file.tell() + sum(len(piece.content) for piece in pieces) - bar.n)
            if pieces[0].error:
                raise pieces[0].error
            pieces[0].write_to(file)
            pieces.popleft()
    finally:
        for piece in pieces:
            piece.is_needed = False
        if pieces:
            pieces[0].write_to(file)


class _Piece:
    """A range of a file, fetched by a thread."""

    def __init__(self, host: _Host, start: int) -> None:
        self.start = start
        self.content = bytearray()
        self.error: Exception | None = None
        self.is_needed = True
        self.thread = threading.Thread(target=self._fetch, args=(host,), daemon=True)

    def _fetch(self, host: _Host) -> None:
        end = min(self.start + PIECE_BYTES, host.size_bytes)
        try:
            for chunk in host.chunks(self.start, end, is_piece=True):
                self.content += chunk
                if not self.is_needed:
                    return
        except Exception as error:  # raised where the pieces are put together
            self.error = error

    def write_to(self, file: BinaryIO) -> None:
        """Write what has arrived; doing it again changes nothing."""
        file.seek(self.start)
        file.write(bytes(self.content))  # a copy: the thread may still be appending


@dataclass
class _Host:
    """A URL of a file with a known size.

    Attributes:
        cuts: number of answers that did not arrive completely.
        etag: what the host calls this version of the file.
    """

    url: str
    size_bytes: int
    timeout: float
    cuts: int = 0
    etag: str = field(default="", init=False)

    def chunks(self, start: int, end: int, *, is_piece: bool = False) -> Iterator[bytes]:
        """Request a range and yield it as it arrives.

        A host without ranges sends the whole file; then everything from `start` on is yielded.

        Raises:
            _CutError: not everything arrived, or, of a piece, it would be the whole file.
            _UnusableError: the host does not have the file.
            requests.RequestException, urllib3.exceptions.HTTPError: the request failed.
        """
        import requests

        # By default a server may send gzip data, which requests decompresses.
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        if self.etag:
            headers["If-Range"] = self.etag
        timeouts = (min(self.timeout, CONNECT_SECONDS), self.timeout)
        with requests.get(self.url, stream=True, timeout=timeouts, headers=headers) as answer:
            has_ranges = self._check(answer, start)
            if is_piece and not has_ranges:
                raise _CutError("the host no longer sends ranges")
            at, end = (start, end) if has_ranges else (0, self.size_bytes)
            for chunk in _arriving(answer, self.timeout):
                if at + len(chunk) > end:
                    raise _UnusableError(f"received more than the expected {end:,} bytes")
                yield chunk[max(0, start - at) :]
                at += len(chunk)
        if at < end:
            is_whole = answer.headers.get("Transfer-Encoding", "") == "chunked"
            error = _UnusableError if is_whole else _CutError
            raise error(f"received {at:,} of the expected {end:,} bytes")

    def _check(self, answer: requests.Response, start: int) -> bool:
        """Return whether an answer is a range, and raise if it is not of the file."""
        status, headers = answer.status_code, answer.headers
        if status in (408, 429) or status >= 500:
            raise _CutError(f"{status} {answer.reason}")
        if status not in (200, 206):
            raise _UnusableError(f"{status} {answer.reason}")
        if headers.get("Content-Encoding", "identity") != "identity":
            raise _UnusableError(f"received data encoded as {headers['Content-Encoding']}")
        etag = headers.get("ETag", "")
        self.etag = "" if etag.startswith("W/") else etag
        size = headers.get("Content-Length", "")
        if status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
            if not found or int(found[1]) != start:
                raise _UnusableError("received another range than was requested")
            size = found[2]
        if size and size != str(self.size_bytes):
            raise _UnusableError(f"the file has {size} bytes, expected {self.size_bytes:,}")
        return bool(status == 206)


def _arriving(answer: requests.Response, timeout: float) -> Iterator[bytes]:
    """Yield what arrives, undecoded; raise if it is next to nothing for `timeout` seconds."""
    began, received = time.monotonic(), 0
    while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=False):
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - began
        if seconds > timeout:
            if received < STALLED * seconds:
                raise _CutError(f"timed out: {received:,} bytes in {seconds:.0f} seconds")
            began, received = time.monotonic(), 0
