"""A tiny release in CIFAR-10's format, and a web server on this machine."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cifarzoo.data.batches import PublishedFile, Release


def _text(value: str) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value.encode()


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def python2_pickle(pixels: bytes, labels: list[int]) -> bytes:
    """Write a batch as Python 2 did in 2009, byte strings and old numpy names and all."""
    dtype = b"cnumpy\ndtype\n" + _text("u1") + _integer(0) + _integer(1) + b"\x87R"
    dtype += b"(" + _integer(3) + _text("|") + b"NNN" + _integer(-1) * 2 + _integer(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _integer(0) + b"\x85"
    array += _text("b") + b"\x87R"
    shape = _integer(len(labels)) + _integer(3072) + b"\x86"
    array += b"(" + _integer(1) + shape + dtype + b"I00\n"
    array += b"T" + struct.pack("<i", len(pixels)) + pixels + b"tb"
    items = _text("data") + array + _text("labels")
    items += b"](" + b"".join(map(_integer, labels)) + b"e"
    return b"\x80\x02}(" + items + b"u."


def published(name: str, content: bytes) -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Fake:
    """A release of 30 images and its files."""

    release: Release
    contents: dict[str, bytes]
    archive: bytes

    def extract_to(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder


def pack(path: Path, contents: dict[str, bytes], *, prefix: str = "fake-batches/") -> Path:
    """Write a `.tar.gz`."""
    source = path.parent / f"{path.name}-contents"
    source.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            (source / name).write_bytes(content)
            tar.add(source / name, arcname=f"{prefix}{name}")
    return path


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    contents = {
        name: python2_pickle(rng.bytes((4 + i % 2) * 3072), [i, 9, 0, 5, i][: 4 + i % 2])
        for i, name in enumerate(names)
    }
    contents["batches.meta"] = b"\x80\x02}."
    path = pack(tmp_path_factory.mktemp("fake") / "fake.tar.gz", {"readme.html": b"", **contents})
    files = {name: published(name, content) for name, content in contents.items()}
    release = Release(
        url="http://127.0.0.1:9/fake.tar.gz",
        archive_md5=hashlib.md5(path.read_bytes()).hexdigest(),
        archive_bytes=path.stat().st_size,
        folder="fake-batches",
        train=tuple(files[name] for name in names[:5]),
        test=files["test_batch"],
        meta=files["batches.meta"],
    )
    return Fake(release, contents, path.read_bytes())


@dataclass
class Server:
    """What it answers by path: status, body, and the length that it claims (None: the body's).

    Where `stalls` is something, that is called in the place of sending the body.
    """

    url: str
    answers: dict[str, tuple[int, bytes, int | None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stalls: Callable[[BaseHTTPRequestHandler], None] | None = None

    def release(self, fake: Fake) -> Release:
        """Give the fake release as if this server were its home."""
        return replace(fake.release, url=f"{self.url}/home/fake.tar.gz")


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            status, body, length = told.answers.get(self.path, (404, b"no such file", None))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if told.stalls is None:
                self.wfile.write(body)
            else:
                told.stalls(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        told = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Keep the machine's own data out, but where a test is about it."""
    monkeypatch.delenv("CIFARZOO_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("CIFARZOO_DATA", raising=False)


Packer = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def packed(tmp_path: Path) -> Packer:
    """Pack contents into an archive of the fake release's name, in a folder of its own."""

    def to_archive(contents: dict[str, bytes]) -> Path:
        folder = tmp_path / "packed"
        folder.mkdir()
        return pack(folder / "fake.tar.gz", contents)

    return to_archive
