"""Tests of downloads against a real HTTP server on the loopback interface."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

import pytest
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
    """A server with a list of answers per path, the last one repeated, and the requested paths."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)

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
        (send(CONTENT[:70_000], Content_Length=str(SIZE)), "70000 bytes read"),
        (send(Content_Length="100"), "does not match"),
        (send(b"<html>Log in</html>"), "does not match"),
        (send(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])), "does not match"),
        (send(CONTENT + b"\0"), f"more than the expected {SIZE:,} bytes"),
        (send(bytes(50 << 20), Content_Length=""), "more than"),
        (send(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip"), "more than"),
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
    assert waits == [1, 2, 3]
    assert_complete(tmp_path)


def test_a_silent_host_times_out(host: Host, tmp_path: Path) -> None:
    finish = threading.Event()
    host.answers["file"] = [stall(CONTENT[:1000], threading.Event(), finish)]
    (failure,) = host.get(tmp_path, timeout=0.3)
    finish.set()
    assert "timed out" in failure
    assert names(tmp_path) == []


def test_on_a_full_disk_no_other_url_is_tried(host: Host, tmp_path: Path) -> None:
    host.answers |= {"file": [send()], "other": [send()]}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, hard))
    try:
        (failure,) = host.get(tmp_path, "file", "other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write to {tmp_path}: " in failure
    assert host.requested == ["file"]
    assert names(tmp_path) == []


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
