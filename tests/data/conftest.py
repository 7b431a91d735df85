"""Tiny releases in the formats of CIFAR-10 and CIFAR-100, and writers of the forms they come in."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cifarzoo.data import cifar
from cifarzoo.data.published import Published, content_digest, image_hashes, order_digest

Array: TypeAlias = NDArray[np.uint8]
Split: TypeAlias = tuple[Array, Array]  # images (N,32,32,3), labels (N,K)
Splits: TypeAlias = Mapping[str, Split]


@dataclass(frozen=True)
class Release:
    """A published data set, the content of its files, and their archive."""

    data: Published
    load: Callable[..., cifar.ImageData]
    contents: dict[str, bytes]
    archive: bytes
    splits: dict[str, Split]

    @property
    def n_train(self) -> int:
        return self.data.sizes["train"]

    def extract_to(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder


def dump(batch: dict[bytes, Any]) -> bytes:
    """Return a pickle whose keys are strings as Python 2 wrote them."""
    content = pickle.dumps(batch, protocol=3)
    for key in batch:
        content = content.replace(b"C%c%b" % (len(key), key), b"U%c%b" % (len(key), key))
    return content


def tar(folder: str, contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in reversed([*contents.items()]):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def blocks(data: Published, splits: Splits) -> dict[str, Split]:
    """Divide the splits among files, in their order."""
    *train, test = data.python.files
    images, labels = splits["train"]
    parts = zip(np.array_split(images, len(train)), np.array_split(labels, len(train)), strict=True)
    return {**dict(zip(train, parts, strict=True)), test: splits["test"]}


def planes(images: Array) -> Array:
    return images.transpose(0, 3, 1, 2).reshape(-1, 3072)


def write_python(data: Published, splits: Splits, folder: Path) -> Path:
    folder = folder / data.python.folder
    folder.mkdir(parents=True)
    for name, (images, labels) in blocks(data, splits).items():
        keys = [f"{label}s".encode() for label in data.labels]
        columns = dict(zip(keys, labels.T.tolist(), strict=True))
        (folder / name).write_bytes(dump({b"data": planes(images), **columns}))
    return folder


def write_binary(data: Published, splits: Splits, folder: Path) -> Path:
    folder = folder / data.binary.folder
    folder.mkdir(parents=True)
    for name, (images, labels) in blocks(data, splits).items():
        rows = np.concatenate([labels[:, ::-1], planes(images)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


@functools.lru_cache(60_000)  # most of the time of a test of the real data
def png(pixels: bytes) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (32, 32), pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def write_pngs(
    data: Published, splits: Splits, folder: Path, name: str = "{i:05}", kind: str = "png"
) -> Path:
    """Write a tree of images; `{i}` in their name is replaced with their place in the split."""
    for split, (images, labels) in splits.items():
        for each in data.classes:
            (folder / split / each).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / data.classes[label[0]] / name.format(i=i)
            path.with_name(f"{path.name}.{kind}").write_bytes(png(image.tobytes()))
    return folder


def write_parquet(data: Published, splits: Splits, folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    folder = folder / data.config
    folder.mkdir(parents=True)
    for split, (images, labels) in splits.items():
        pictures = [{"bytes": png(image.tobytes()), "path": None} for image in images]
        columns = dict(zip(data.labels, labels.T.tolist(), strict=True))
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"img": pa.array(pictures, kind), **columns})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


Writer: TypeAlias = Callable[[Published, Splits, Path], Path]
WRITERS: dict[str, Writer] = {
    "folder": write_python,
    "binary folder": write_binary,
    "PNG files": write_pngs,
    "Parquet files": write_parquet,
}


def random_split(data: Published, n: int, seed: int) -> Split:
    """Return noise with balanced labels in random order."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.arange(n, dtype=np.uint8) % len(data.classes))
    labels = [fine, np.array(data.superclass_of, np.uint8)[fine]] if data.superclass_of else [fine]
    return rng.integers(0, 256, (n, 32, 32, 3), np.uint8), np.stack(labels, axis=1)


def digests(data: Published, splits: Splits) -> dict[str, Any]:
    """Return the fields of a data set that describe its content."""
    hashes = {split: image_hashes(*each) for split, each in splits.items()}
    files = {name: order_digest(image_hashes(*each)) for name, each in blocks(data, splits).items()}
    *train, test = files.values()
    return {
        "sizes": {split: len(each) for split, each in hashes.items()},
        "contents": {split: content_digest(each) for split, each in hashes.items()},
        "orders": {"train": tuple(train), "test": (test,)} if data.orders else {},
    }


def pinned(data: Published, files: Mapping[str, bytes], archive: bytes) -> Published:
    """Return a data set with the hashes of these files and their archive."""
    hashes = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in files.items()}
    sha256 = hashlib.sha256(archive).hexdigest()
    return replace(
        data,
        hashes=hashes,
        python=replace(data.python, sha256=sha256, size_bytes=len(archive)),
    )


def contents_of(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def make_release(key: str, folder: Path) -> Release:
    """Make a small release of a data set; the folder is for temporary files."""
    data: Published = getattr(cifar, key.upper())
    n_test = len(data.classes)
    n_train = n_test * max(2, len(data.python.files) - 1)
    splits = {"train": random_split(data, n_train, 0), "test": random_split(data, n_test, 1)}
    data = replace(data, **digests(data, splits))
    contents = contents_of(write_python(data, splits, folder), data.python.files)
    archive = tar(data.python.folder, {**contents, "batches.meta": b""})
    data = pinned(data, contents, archive)
    return Release(data, getattr(cifar, f"load_{key}"), contents, archive, splits)


@pytest.fixture(params=["cifar10", "cifar100"])
def published(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Release:
    """A small release of each data set in place of the real one."""
    release = make_release(request.param, tmp_path_factory.mktemp("release"))
    monkeypatch.setattr(cifar, request.param.upper(), release.data)
    return release


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Ignore the machine's settings and cache, except CIFARZOO_DATA in tests of the real data."""
    monkeypatch.delenv("CIFARZOO_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("cifarzoo.data.published.HOST", "http://127.0.0.1:9")  # nothing listens
    monkeypatch.setattr("cifarzoo.data.published.MIRRORS", ())
    monkeypatch.setattr("pooch.os_cache", lambda _: str(tmp_path / "user_cache"))
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("CIFARZOO_DATA", raising=False)
