"""Tiny releases in the formats of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cifarzoo.data import cifar


@dataclass(frozen=True)
class Release:
    """Files with 22 training and 5 test images, and their archive."""

    data: cifar.Published
    load: Callable[..., cifar.ImageData]
    contents: dict[str, bytes]
    archive: bytes

    def extract_to(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder


def dump(batch: dict[bytes, object]) -> bytes:
    """Return a pickle whose keys are strings as Python 2 wrote them."""
    content = pickle.dumps(batch, protocol=3)
    for key in batch:
        content = content.replace(b"C%c%b" % (len(key), key), b"U%c%b" % (len(key), key))
    return content


@pytest.fixture(params=["cifar10", "cifar100"])
def published(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A small release of each data set in place of the real one."""
    variable = request.param.upper()
    data, rng, contents = getattr(cifar, variable), np.random.default_rng(0), {}
    sizes = (4, 5, 4, 5, 4, 5) if variable == "CIFAR10" else (22, 5)
    for i, (name, n) in enumerate(zip(data.files, sizes, strict=True)):
        fine = ([i, 9, 0, 5, i] * 5)[:n]
        pixels = rng.integers(0, 256, (n, 3072), np.uint8)
        labels = dict(zip(data.labels, (fine, [label // 5 for label in fine]), strict=False))
        contents[name] = dump({b"data": pixels, **labels})
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in reversed({**contents, "batches.meta": b""}.items()):
            member = tarfile.TarInfo(f"{data.folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    hashes = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in contents.items()}
    digests = {
        name: cifar._digest(pickle.loads(contents[name], encoding="bytes"), data.labels)
        for name in data.contents
    }
    data = replace(
        data,
        files=hashes,
        contents=digests,
        md5=hashlib.md5(file.getvalue()).hexdigest(),
        size_bytes=len(file.getvalue()),
    )
    monkeypatch.setattr(cifar, variable, data)
    monkeypatch.setattr(cifar, "HOST", "http://127.0.0.1:9")  # nothing listens
    return Release(data, getattr(cifar, f"load_{request.param}"), contents, file.getvalue())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Ignore the machine's settings, except in tests of the real data."""
    monkeypatch.delenv("CIFARZOO_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("CIFARZOO_DATA", raising=False)
