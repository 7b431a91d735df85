"""Tests of downloads against a real HTTP server on the loopback interface."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import requests
from typing_extensions import override

from cifarzoo.download import CHUNK_BYTES, download

# requests leaves the sockets of failed downloads to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

CONTENT = random.Random(0).randbytes(3 * CHUNK_BYTES + 1000)
SIZE = len(CONTENT)
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
Answer: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Host:
    """A server with a list of answers per path, the last one repeated.

    Attributes:
        requested: the paths that were requested.
        ranges: the `Range` of each request, and its `If-Range`.
        sent: number of bytes that `serve` sent.
    """

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    ranges: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def get(self, folder: Path, *paths: str, timeout: float = 5.0) -> list[str]:
        urls, path = [f"{self.url}/{path}" for path in paths or ("file",)], folder / "file.bin"
        return download(urls, path, known_hash=HASH, size_bytes=SIZE, timeout=timeout)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("cifarzoo.download.RETRIES", 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requested.append(self.path[1:])
            made.ranges.append((self.headers["Range"], self.headers["If-Range"]))
            answers = made.answers[self.path[1:]]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Host(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()
        gc.collect()


def send(body: bytes = CONTENT, *, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def serve(
    host: Host,
    content: bytes = CONTENT,
    *,
    length: int | None = None,
    etag: str = '"1"',
    meet: threading.Barrier | None = None,
) -> Answer:
    """Send the requested range, or only `length` bytes of it, after others have been requested."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        start, end = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        if meet:
            meet.wait()
        body = content[start : end + 1]
        place = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        headers = {"Content_Range": place, "Content_Length": str(len(body)), "ETag": etag}
        send(body[:length], status=206, **headers)(request)
        host.sent += len(body[:length])

    return answer


def stall(body: bytes, sent: threading.Event, finish: threading.Event) -> Answer:
    """Send the beginning of the file, then nothing."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        send(body, Content_Length=str(SIZE))(request)
        sent.set()
        finish.wait(60)

    return answer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".cifarzoo.lock")


def assert_complete(folder: Path) -> None:
    assert names(folder) == ["file.bin"]
    assert (folder / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [send(), send(Content_Length="")], ids=["usual", "no length"])
def test_a_complete_file_is_downloaded_once(host: Host, tmp_path: Path, answer: Answer) -> None:
    host.answers["file"] = [answer]
    assert host.get(tmp_path / "new") == []
    assert_complete(tmp_path / "new")
    assert host.get(tmp_path / "new") == []
    assert host.requested == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_downloaded_file_has_the_permissions_that_open_gives(host: Host, tmp_path: Path) -> None:
    host.answers["file"] = [send()]
    before = os.umask(0o022)
    try:
        assert host.get(tmp_path) == []
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.bin").stat().st_mode) == 0o644


def test_bar_of_a_failed_download_is_erased(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.answers["file"] = [send(CONTENT[:70_000], Content_Length=str(SIZE))]
    assert host.get(tmp_path)
    shown = capsys.readouterr().err
    assert "\n" not in shown
    assert not shown.split("\r")[-2].strip()
    gc.collect()  # a bar that was not closed would appear again
    assert not capsys.readouterr().err


def test_a_failure_cannot_control_a_terminal(host: Host, tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(404, "no\x1b[31m")
        request.end_headers()

    host.answers["bad%1B%5B31m"] = [answer]
    (failure,) = host.get(tmp_path, "bad\x1b[31m")
    assert "404" in failure
    assert failure.isprintable()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (send(b"no", status=404), "404"),
        (send(b"no", status=503), "503"),
        (send(Content_Length="100"), "has 100 bytes"),
        (send(b"<html>Log in</html>"), "has 19 bytes"),
        (send(b"5\r\n<html\r\n0\r\n\r\n", Transfer_Encoding="chunked", Content_Length=""), "5 of"),
        (send(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])), "does not match"),
        (send(CONTENT + b"\0"), f"expected {SIZE:,}"),
        (send(CONTENT + b"\0", Content_Length=""), f"more than the expected {SIZE:,} bytes"),
        (send(bytes(50 << 20), Content_Length=""), "more than"),
        (send(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip"), "encoded as gzip"),
        (send(status=206, Content_Range=f"bytes 5-{SIZE - 1}/{SIZE}"), "another range"),
        (send(status=206), "another range"),
        (send(status=206, Content_Range=f"bytes 0-{SIZE - 1}/5"), "has 5 bytes"),
        (send(b"", status=302, Location="file:///etc/passwd"), "No connection adapters"),
        (send(b"", status=302, Location="/bad"), "30 redirects"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_answer_leaves_no_file_and_the_next_url_is_tried(
    host: Host, tmp_path: Path, answer: Answer, reason: str
) -> None:
    host.answers |= {"bad": [answer], "file": [send()]}
    (failure,) = host.get(tmp_path / "one", "bad")
    assert failure.startswith(f"{host.url}/bad: ")
    assert reason in failure
    assert "\n" not in failure
    assert names(tmp_path / "one") == []
    assert host.get(tmp_path / "two", "bad", "file") == []
    assert_complete(tmp_path / "two")


def test_truncated_downloads_are_retried_after_longer_and_longer_waits(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 3)
    truncated = [send(CONTENT[:end], Content_Length=str(SIZE)) for end in (0, 7, SIZE - 1)]
    host.answers["file"] = [*truncated, send()]
    assert host.get(tmp_path) == []
    assert waits == [1, 1, 1]  # the second and the third answer held more than the ones before
    assert_complete(tmp_path)


def test_without_progress_waits_grow_and_the_next_url_is_tried(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 2)
    host.answers |= {"busy": [send(b"", status=503)], "gone": [send(b"", status=404)]}
    busy, gone = host.get(tmp_path, "busy", "gone")
    assert "503" in busy
    assert "404" in gone
    assert host.requested == ["busy", "busy", "busy", "gone"]
    assert waits == [1, 2]


def test_an_unreachable_host_is_tried_once(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, tried = requests.get, []

    def unreachable(url: str, **options: Any) -> requests.Response:  # noqa: ANN401
        if url.endswith("/file"):
            return get(url, **options)
        tried.append(options["timeout"])
        raise requests.ConnectTimeout("no route")

    monkeypatch.setattr("cifarzoo.download.RETRIES", 2)
    monkeypatch.setattr("requests.get", unreachable)
    host.answers["file"] = [send()]
    assert host.get(tmp_path, "blocked", "file", timeout=20) == []
    assert tried == [(10, 20)]


# Parts of a file


def cut(length: int) -> Answer:
    return send(CONTENT[:length], Content_Length=str(SIZE))


def test_a_cut_download_goes_on_where_it_stopped(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 1)
    host.answers["file"] = [serve(host, length=n) for n in (70_000, 1, 50_000)] + [serve(host)]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    assert host.sent == SIZE
    starts = (0, 70_000, 70_001, 120_001)
    assert [sent for sent, _ in host.ranges] == [f"bytes={start}-{SIZE - 1}" for start in starts]
    assert [version for _, version in host.ranges] == [None, '"1"', '"1"', '"1"']


def test_a_later_call_goes_on_from_another_host(host: Host, tmp_path: Path) -> None:
    host.answers |= {"cut": [serve(host, length=70_000)], "file": [serve(host)]}
    (failure,) = host.get(tmp_path, "cut")
    assert "70,000" in failure or "70000" in failure
    assert names(tmp_path) == ["file.bin.part"]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    assert host.sent == SIZE
    assert host.ranges[1] == (f"bytes=70000-{SIZE - 1}", None)


def test_a_host_without_ranges_sends_the_file_from_its_beginning(
    host: Host, tmp_path: Path
) -> None:
    host.answers |= {"cut": [cut(70_000)], "file": [send()]}
    assert host.get(tmp_path, "cut")
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)


def test_a_complete_part_is_not_requested_again(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    assert host.requested == []


@pytest.mark.parametrize("wrong", [b"x", bytes(70_000), bytes(SIZE), bytes(SIZE + 1)])
def test_a_part_of_another_file_is_replaced(host: Host, tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(wrong)
    host.answers["file"] = [serve(host)]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)


def test_a_link_in_place_of_the_part_is_not_followed(host: Host, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file.bin.part").symlink_to(victim)
    host.answers["file"] = [serve(host)]
    assert host.get(tmp_path / "new") == []
    assert_complete(tmp_path / "new")
    assert victim.read_bytes() == b"precious"


def test_wrong_content_is_requested_once_and_not_kept(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifarzoo.download.RETRIES", 2)
    wrong = bytes(SIZE)
    host.answers |= {"lie": [serve(host, wrong)], "file": [serve(host)]}
    (failure,) = host.get(tmp_path, "lie")
    assert "does not match" in failure
    assert names(tmp_path) == []
    assert host.requested == ["lie"]
    assert host.get(tmp_path, "lie", "file") == []
    assert_complete(tmp_path)


def test_a_host_that_lies_and_breaks_off_costs_only_time(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 1)
    lies = [serve(host, bytes(SIZE), length=n) for n in (70_000, 0)]
    host.answers |= {"lie": lies, "file": [serve(host)]}
    assert host.get(tmp_path, "lie", "file") == []
    assert_complete(tmp_path)
    assert host.requested == ["lie", "lie", "file", "file"]


# Several ranges at once


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Size of pieces, five of which make the file."""
    monkeypatch.setattr("cifarzoo.download.PIECE_BYTES", 40_000)
    return 40_000


def test_several_ranges_are_fetched_at_once(host: Host, tmp_path: Path, pieces: int) -> None:
    meet = threading.Barrier(4, timeout=60)  # fails unless four requests are open
    host.answers["file"] = [serve(host), serve(host, meet=meet)]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    assert host.sent == SIZE
    first, *others = sorted(host.ranges, key=lambda sent: int(sent[0][6:].split("-")[0]))
    assert first == ("bytes=0-39999", None)
    starts = range(pieces, SIZE, pieces)
    ends = (min(start + pieces, SIZE) - 1 for start in starts)
    assert others == [(f"bytes={a}-{b}", '"1"') for a, b in zip(starts, ends, strict=True)]


def test_after_a_cut_one_connection_fetches_the_rest(
    host: Host, tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 1)
    whole, short = serve(host), serve(host, length=10_000)

    def answer(request: BaseHTTPRequestHandler) -> None:
        is_cut = request.headers["Range"].startswith("bytes=80000-")
        (short if is_cut else whole)(request)

    host.answers["file"] = [answer]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    pieces_of_file = {f"bytes={at}-{min(at + pieces, SIZE) - 1}" for at in range(0, SIZE, pieces)}
    others = [sent for sent in host.ranges if sent[0] not in pieces_of_file]
    assert others == [(f"bytes=90000-{SIZE - 1}", '"1"')]


def test_a_host_may_stop_sending_ranges(
    host: Host, tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("cifarzoo.download.RETRIES", 1)
    host.answers["file"] = [serve(host), send()]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)


def test_an_interrupted_download_keeps_what_arrived(
    host: Host, tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    host.answers["file"] = [serve(host)]
    with monkeypatch.context() as patch:
        patch.setattr("cifarzoo.download._append_pieces", interrupt)
        with pytest.raises(KeyboardInterrupt):
            host.get(tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:pieces]
    assert host.get(tmp_path) == []
    assert_complete(tmp_path)
    assert host.sent == SIZE


def test_a_silent_host_times_out(host: Host, tmp_path: Path) -> None:
    finish = threading.Event()
    host.answers["file"] = [stall(CONTENT[:1000], threading.Event(), finish)]
    (failure,) = host.get(tmp_path, timeout=0.3)
    finish.set()
    assert "timed out" in failure
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:1000]


def test_a_host_that_sends_next_to_nothing_times_out(host: Host, tmp_path: Path) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        send(b"", Content_Length=str(SIZE))(request)
        for i in range(1000):
            request.wfile.write(CONTENT[i : i + 1])
            time.sleep(0.02)

    host.answers |= {"slow": [trickle], "file": [serve(host)]}
    assert host.get(tmp_path, "slow", "file", timeout=0.3) == []
    assert_complete(tmp_path)


def test_on_a_full_disk_no_other_url_is_tried(host: Host, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    host.answers |= {"file": [send()], "other": [send()]}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, hard))
    try:
        (failure,) = host.get(tmp_path, "file", "other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write to {tmp_path}: " in failure
    assert host.requested == ["file"]
    assert names(tmp_path) == ["file.bin.part"]


def test_a_folder_that_cannot_be_created_is_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (failure,) = host.get(tmp_path / "file" / "folder")
    assert f"cannot write to {tmp_path / 'file' / 'folder'}" in failure


SCRIPT = """
import sys
from pathlib import Path
from cifarzoo.download import download
url, path, known_hash, size_bytes = sys.argv[1:]
sys.exit(len(download([url], Path(path), known_hash=known_hash, size_bytes=int(size_bytes))))
"""


def test_one_of_the_waiting_processes_takes_over_from_a_killed_one(
    host: Host, tmp_path: Path
) -> None:
    half_sent, killed = threading.Event(), threading.Event()
    host.answers["file"] = [stall(CONTENT[: SIZE // 2], half_sent, killed), send()]
    args = (f"{host.url}/file", tmp_path / "file.bin", HASH, str(SIZE))
    with contextlib.ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            process = stack.enter_context(subprocess.Popen((sys.executable, "-c", SCRIPT, *args)))
            stack.callback(process.kill)
            return process

        first = start()
        assert half_sent.wait(60)
        others = [start(), start()]
        first.kill()
        killed.set()
        assert [process.wait(60) for process in others] == [0, 0]
    assert host.requested == ["file", "file"]
    assert_complete(tmp_path)
