"""Tests of fetching from a host that is slow, lies or breaks off: a real one, on loopback."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

import pytest

from cifarzoo.fetching import CHUNK_BYTES, Patience, RemoteFile, fetch

# Sockets of failed downloads are left to the garbage collector, by requests.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

CONTENT = random.Random(0).randbytes(3 * CHUNK_BYTES + 1000)
SIZE = len(CONTENT)
FILE = RemoteFile(
    name="file.bin",
    size_bytes=SIZE,
    known_hash=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
)
ONCE = Patience(retries=0, timeout_seconds=5)
Answer: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Host:
    """A web server: what it does by path (in turn, the last one for ever), and what was asked."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def get(self, folder: Path, *paths: str, patience: Patience = ONCE) -> list[str]:
        return fetch(
            FILE,
            folder,
            [f"{self.url}/{path}" for path in paths or ("file",)],
            patience=patience,
            is_there=(folder / FILE.name).is_file,
        )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path[1:])
            answers = told.answers[self.path[1:]]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # they had enough
                answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Host(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        server.shutdown()
        thread.join()
        gc.collect()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited between two tries, without waiting for them."""
    seconds: list[float] = []
    monkeypatch.setattr("pooch.core.time.sleep", seconds.append)
    return seconds


def send(body: bytes = CONTENT, *, status: int = 200, pause: float = 0, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value:
                request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        size = SIZE // 5 if pause else SIZE
        for start in range(0, len(body), size):
            if pause:
                time.sleep(pause)
            request.wfile.write(body[start : start + size])

    return answer


def moved(to: str) -> Answer:
    return send(b"", status=302, Location=to)


def assert_there(folder: Path) -> None:
    assert (folder / FILE.name).read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == [".cifarzoo.lock", FILE.name]


def assert_nothing_is_left(folder: Path) -> None:
    assert [p.name for p in folder.iterdir()] == [".cifarzoo.lock"]


def test_a_slow_host_is_waited_for(host: Host, tmp_path: Path) -> None:
    host.answers["file"] = [send(pause=0.2)]
    assert host.get(tmp_path, patience=Patience(retries=0, timeout_seconds=0.9)) == []
    assert_there(tmp_path)


@pytest.mark.parametrize("sent", [0, 1000])
def test_a_silent_host_is_given_up_after_the_time_that_was_set(
    host: Host, tmp_path: Path, waits: list[float], sent: int
) -> None:
    enough = threading.Event()

    def falls_silent(request: BaseHTTPRequestHandler) -> None:
        send(CONTENT[:sent], Content_Length=str(SIZE))(request)
        enough.wait(20)

    host.answers["file"] = [falls_silent]
    begun = time.monotonic()
    (failure,) = host.get(tmp_path, patience=Patience(retries=1, timeout_seconds=0.3))
    enough.set()
    assert time.monotonic() - begun < 10
    assert f"{host.url}/file: " in failure
    assert "timed out" in failure
    assert len(host.asked) == 2
    assert_nothing_is_left(tmp_path)


def test_what_was_cut_off_at_random_is_asked_for_again_ever_later(
    host: Host, tmp_path: Path, waits: list[float]
) -> None:
    ends = [random.Random(i).randrange(SIZE) for i in range(4)]
    host.answers["file"] = [
        *(send(CONTENT[:end], Content_Length=str(SIZE)) for end in ends),
        send(),
    ]
    assert host.get(tmp_path, patience=Patience(retries=4, timeout_seconds=5)) == []
    assert waits == [1, 2, 3, 4]
    assert len(host.asked) == 5
    assert_there(tmp_path)


def test_a_host_that_cuts_off_every_time_is_told(host: Host, tmp_path: Path) -> None:
    host.answers["file"] = [send(CONTENT[:70_000], Content_Length=str(SIZE))]
    (failure,) = host.get(tmp_path)
    assert "70000 bytes read" in failure
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("claimed", ["100", str(SIZE - 1)])
def test_a_length_that_is_too_short_is_told(host: Host, tmp_path: Path, claimed: str) -> None:
    host.answers["file"] = [send(Content_Length=claimed)]
    (failure,) = host.get(tmp_path)
    assert failure == f"  {host.url}/file: received {int(claimed):,} bytes, expected {SIZE:,}"
    assert_nothing_is_left(tmp_path)


def test_an_endless_answer_is_stopped_where_the_file_should_end(host: Host, tmp_path: Path) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        send(b"", Content_Length="")(request)
        for _ in range(1000):
            request.wfile.write(bytes(1 << 20))
            sent += 1 << 20

    host.answers["file"] = [endless]
    (failure,) = host.get(tmp_path)
    assert f"received more than the {SIZE:,} bytes expected" in failure
    assert sent < 100 << 20
    assert_nothing_is_left(tmp_path)


def test_an_answer_without_a_length_is_as_good(host: Host, tmp_path: Path) -> None:
    host.answers["file"] = [send(Content_Length="")]
    assert host.get(tmp_path) == []
    assert_there(tmp_path)


def test_a_page_in_the_place_of_the_file_is_shown(host: Host, tmp_path: Path) -> None:
    host.answers["file"] = [send(b"<!doctype html>\n<title>Log\x1b[31m in</title>" + b" " * 1000)]
    (failure,) = host.get(tmp_path)
    assert f"received 1,042 bytes, expected {SIZE:,}; they begin '<!doctype html>\\n" in failure
    assert "\x1b" not in failure
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "body", [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), bytes(SIZE), b"<html>".ljust(SIZE)]
)
def test_another_file_of_the_same_size_is_refused(host: Host, tmp_path: Path, body: bytes) -> None:
    host.answers["file"] = [send(body)]
    (failure,) = host.get(tmp_path)
    assert FILE.known_hash.removeprefix("sha256:") in failure
    assert hashlib.sha256(body).hexdigest() in failure
    assert_nothing_is_left(tmp_path)


def test_a_bomb_of_the_transfer_encoding_is_stopped(host: Host, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    host.answers["file"] = [send(bomb, Content_Encoding="gzip")]
    (failure,) = host.get(tmp_path)
    assert "received more than" in failure
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("status", [403, 404, 410, 429, 500, 502, 503])
def test_a_refusal_is_told_with_its_number_and_the_next_host_asked(
    host: Host, tmp_path: Path, waits: list[float], status: int
) -> None:
    host.answers["bad"] = [send(b"no", status=status)]
    host.answers["file"] = [send()]
    patience = Patience(retries=1, timeout_seconds=5)
    (failure,) = host.get(tmp_path / "one", "bad", patience=patience)
    assert f"{host.url}/bad: {status} " in failure
    assert host.get(tmp_path / "two", "bad", "file", patience=patience) == []
    assert host.asked == ["bad", "bad", "bad", "bad", "file"]
    assert_there(tmp_path / "two")


def test_every_host_that_failed_is_told(host: Host, tmp_path: Path) -> None:
    host.answers |= {"a": [send(b"no", status=403)], "b": [send(b"{}")]}
    first, second = host.get(tmp_path, "a", "b")
    assert "403" in first
    assert "received 2 bytes" in second
    assert_nothing_is_left(tmp_path)


def test_a_redirect_is_followed(host: Host, tmp_path: Path) -> None:
    host.answers |= {"file": [moved("/there")], "there": [moved("/here")], "here": [send()]}
    assert host.get(tmp_path) == []
    assert host.asked == ["file", "there", "here"]
    assert_there(tmp_path)


@pytest.mark.parametrize(
    ("to", "told"),
    [("/file", "30 redirects"), ("file:///etc/passwd", "No connection adapters"), ("/page", "'<")],
)
def test_a_redirect_to_nowhere_is_told(host: Host, tmp_path: Path, to: str, told: str) -> None:
    host.answers |= {"file": [moved(to)], "page": [send(b"<html>")]}
    (failure,) = host.get(tmp_path)
    assert told in failure
    assert_nothing_is_left(tmp_path)


def test_no_space_is_told_as_the_folders_fault_and_no_other_host_is_asked(
    host: Host, tmp_path: Path
) -> None:
    host.answers |= {"file": [send()], "other": [send()]}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, hard))  # the system's own refusal
    try:
        (failure,) = host.get(tmp_path, "file", "other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path} cannot be written to: " in failure
    assert "too large" in failure
    assert host.asked == ["file"]
    assert_nothing_is_left(tmp_path)
    assert host.get(tmp_path) == []
    assert_there(tmp_path)
