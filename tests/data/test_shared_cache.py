"""Tests of a cache that several processes share, some of which are killed: real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.data.conftest import Fake, Server

SCRIPT = Path(__file__).with_name("sharing.py")
ARCHIVE = "/home/fake.tar.gz"


class Starter:
    """Starts processes that share one cache."""

    def __init__(self, folder: Path, fake: Fake, server: Server) -> None:
        self.cache = folder / "cache"
        self.started: list[subprocess.Popen[str]] = []
        self._release = folder / "release.json"
        self._release.write_text(json.dumps(asdict(server.release(fake))))

    def __call__(self, *task: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            (sys.executable, SCRIPT, self._release, *task),
            env=os.environ | {"CIFARZOO_DATA": str(self.cache), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def files(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir() if path.name != ".cifarzoo.lock")


@pytest.fixture
def start(tmp_path: Path, fake: Fake, server: Server) -> Iterator[Starter]:
    starter = Starter(tmp_path, fake, server)
    yield starter
    for process in starter.started:
        process.kill()
        process.communicate()


def loss_of(process: subprocess.Popen[str]) -> float:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return float(out)


@pytest.mark.slow
def test_eight_processes_fetch_the_data_once_and_all_train(
    start: Starter, fake: Fake, server: Server
) -> None:
    server.answers[ARCHIVE] = (200, fake.archive, None)
    losses = {loss_of(process) for process in [start() for _ in range(8)]}
    assert len(losses) == 1
    assert server.asked == [ARCHIVE]
    assert start.files() == ["fake.tar.gz"]


@pytest.mark.slow
def test_what_a_killed_process_fetched_is_not_trusted(
    start: Starter, fake: Fake, server: Server
) -> None:
    half_sent, killed = threading.Event(), threading.Event()

    def stall(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(fake.archive[: len(fake.archive) // 2])
        half_sent.set()
        killed.wait(60)

    server.answers[ARCHIVE] = (200, fake.archive, None)
    server.stalls = stall
    first = start()
    assert half_sent.wait(60)
    second = start()  # waits for the first one's lock
    first.kill()
    assert first.wait() < 0
    assert start.files() == [".fake.tar.gz-download"]
    server.stalls = None
    killed.set()
    loss_of(second)
    assert server.asked == [ARCHIVE, ARCHIVE]
    assert start.files() == ["fake.tar.gz"]


@pytest.mark.slow
def test_a_process_killed_while_it_reads_leaves_only_the_archive(
    start: Starter, fake: Fake, server: Server
) -> None:
    server.answers[ARCHIVE] = (200, fake.archive, None)
    reads = start("hang")
    assert reads.stdout is not None
    assert reads.stdout.readline() == "data_batch_1\n"
    reads.kill()
    reads.wait()
    assert start.files() == ["fake.tar.gz"]
    assert (start.cache / "fake.tar.gz").read_bytes() == fake.archive
    loss_of(start())
    assert server.asked == [ARCHIVE]
