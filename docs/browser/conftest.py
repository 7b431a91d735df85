"""Chromium, and the built site on a local server."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from typing_extensions import override

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "html"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    @override
    def log_message(self, *args: object) -> None:
        """Do not log."""


def _serve(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address of the built documentation."""
    assert (SITE / "index.html").exists(), "build it first: nox -s docs"
    yield from _serve(SITE)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the report's page, written from the recorded results."""
    folder = tmp_path_factory.mktemp("report")
    command = (sys.executable, "examples/report_page.py", "--only", "none")
    folders = ("--results", "results", "--out", str(folder))
    subprocess.run((*command, *folders), check=True, cwd=ROOT)
    for address in _serve(folder):
        yield address + "report.html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
