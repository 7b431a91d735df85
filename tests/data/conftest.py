"""A tiny release in the format of CIFAR-10."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cifarzoo.data import cifar


@dataclass(frozen=True)
class Release:
    """Files with 22 training and 5 test images, and their archive."""

    contents: dict[str, bytes]
    archive: bytes

    def extract_to(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Release:
    """A small release in place of the real one."""
    rng, contents = np.random.default_rng(0), {}
    for i, name in enumerate(cifar.FILES):
        n = 4 + i % 2
        batch = {b"data": rng.integers(0, 256, (n, 3072), np.uint8), b"labels": [i, 9, 0, 5, i][:n]}
        content = pickle.dumps(batch, protocol=3)
        for key in (b"\x04data", b"\x06labels"):
            content = content.replace(b"C" + key, b"U" + key)  # a string as Python 2 wrote it
        contents[name] = content
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in reversed({**contents, "batches.meta": b""}.items()):
            member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    release = Release(contents, file.getvalue())
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(cifar, "FILES", hashes)
    monkeypatch.setattr(cifar, "MD5", hashlib.md5(release.archive).hexdigest())
    monkeypatch.setattr(cifar, "SIZE_BYTES", len(release.archive))
    monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:9/{cifar.ARCHIVE}")  # nothing listens
    return release


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Ignore the machine's settings, except in tests of the real data."""
    monkeypatch.delenv("CIFARZOO_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("CIFARZOO_DATA", raising=False)
