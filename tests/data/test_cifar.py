"""Tests of finding, downloading, verifying and decoding CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cifarzoo.data import cifar
from cifarzoo.data.cifar import (
    CIFAR100_CLASSES,
    CIFAR100_SUPERCLASSES,
    CLASSES,
    ImageData,
    load_cifar10,
    load_cifar100,
)
from cifarzoo.data.loader import cifar100_loaders
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError

if TYPE_CHECKING:
    from tests.data.conftest import Release


def same(one: ImageData, other: ImageData) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_images_and_labels_are_in_the_order_of_the_files(
    published: Release, tmp_path: Path
) -> None:
    data = published.load(published.extract_to(tmp_path))
    assert data.train_images.shape == (published.n_train, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)
    assert data.test_labels.dtype == torch.int64
    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        assert np.array_equal(images.permute(0, 2, 3, 1), published.splits[split][0])
        assert labels.tolist() == published.splits[split][1][:, 0].tolist()
    stored = b"".join(bytes(image.flatten().tolist()) for image in data.train_images[:4])
    # planes of red, green and blue, row by row
    assert stored in next(iter(published.contents.values()))


# Finding


@pytest.mark.parametrize("is_inside", [True, False])
def test_folder_and_archive_have_the_same_data(
    published: Release, tmp_path: Path, is_inside: bool
) -> None:
    folder, archive = tmp_path / "folder", tmp_path / "archive" / published.data.python.archive
    published.extract_to(folder / published.data.python.folder if is_inside else folder)
    archive.parent.mkdir()
    archive.write_bytes(published.archive)
    expected = published.load(folder)
    assert same(published.load(archive.parent), expected)
    assert same(published.load(archive), expected)
    assert [*archive.parent.iterdir()] == [archive]


def test_a_missing_file_is_named(published: Release, tmp_path: Path) -> None:
    folder = published.extract_to(tmp_path / published.data.python.folder)
    first = next(iter(published.contents))
    (folder / first).unlink()
    for root in (tmp_path, folder):
        with pytest.raises(DataNotFoundError, match=f"{folder.name} has no {first}"):
            published.load(root, download=False)


def test_an_incomplete_folder_is_skipped(published: Release, tmp_path: Path) -> None:
    folder = published.extract_to(tmp_path / published.data.python.folder)
    (folder / [*published.contents][-1]).unlink()
    (tmp_path / published.data.python.archive).write_bytes(published.archive)
    assert len(published.load(tmp_path).test_images) == len(published.data.classes)


def test_root_overrides_the_variable_and_the_variable_the_cache(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, named = tmp_path / "cache", tmp_path / "named"
    monkeypatch.setattr("pooch.os_cache", lambda _: str(cache))
    monkeypatch.setenv("CIFARZOO_DATA", str(named))
    with pytest.raises(DataNotFoundError) as caught:
        published.load(download=False)
    for part in (named, cache, "CIFARZOO_DATA", "root", "download=True", "shapes_loaders()"):
        assert str(part) in str(caught.value)
    published.extract_to(cache)
    assert len(published.load(download=False).train_images) == published.n_train
    published.extract_to(named)
    (cache / next(iter(published.contents))).write_bytes(b"corrupt, but not read")
    assert len(published.load(download=False).train_images) == published.n_train
    with pytest.raises(FileNotFoundError):
        published.load(tmp_path / "root", download=False)


# Verifying


def changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda content: content[:-1], changed, lambda _: b"<html>"])
@pytest.mark.parametrize("is_archive", [True, False])
def test_a_damaged_file_is_named_and_kept(
    published: Release, tmp_path: Path, is_archive: bool, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / (
        published.data.python.archive if is_archive else next(iter(published.contents))
    )
    if not is_archive:
        published.extract_to(tmp_path)
    bad = damage(published.archive if is_archive else published.contents[path.name])
    path.write_bytes(bad)
    with pytest.raises(DataCorruptError, match="Delete this copy") as caught:
        published.load(tmp_path)
    assert f"{path} ({len(bad):,} bytes)" in str(caught.value)
    assert path.read_bytes() == bad


def test_no_code_in_a_file_is_executed(published: Release, tmp_path: Path) -> None:
    published.extract_to(tmp_path)
    trap = tmp_path / "sprung"
    name = next(iter(published.contents))
    (tmp_path / name).write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
    with pytest.raises(DataCorruptError, match=name):
        published.load(tmp_path)
    assert not trap.exists()


def test_sizes_in_a_damaged_file_allocate_no_memory(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.extract_to(tmp_path)
    monkeypatch.setattr("cifarzoo.data.forms._Unpickler.load", lambda _: pytest.fail("loaded"))
    name = next(iter(published.contents))
    long_index, long_string = b"\x80\x02}r\xff\xff\xff\x7f.", b"\x80\x05\x96" + b"\xff" * 8 + b"."
    for content in (long_index, long_string):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataCorruptError, match=name):
            published.load(tmp_path)


def test_an_unreadable_file_is_named(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    published.extract_to(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", denied)  # root is never denied
    with pytest.raises(DataNotFoundError, match=r"cannot be read: Permission denied"):
        published.load(tmp_path)


# Downloading


@pytest.mark.parametrize("suffix", ["", "/", "/{}"])
def test_the_archive_is_downloaded_once_and_the_mirror_is_tried_first(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    requested: list[str] = []
    archive = published.data.python.archive

    def download(urls: list[str], path: Path, *, known_hash: str, size_bytes: int) -> list[str]:
        assert (known_hash, size_bytes) == (
            f"sha256:{published.data.python.sha256}",
            len(published.archive),
        )
        requested.extend(urls)
        path.parent.mkdir()
        path.write_bytes(published.archive)
        return []

    monkeypatch.setattr(cifar, "download_file", download)
    monkeypatch.setattr("cifarzoo.data.published.MIRRORS", ("https://other.example/{key}",))
    monkeypatch.setenv("CIFARZOO_MIRROR", f"https://mirror.example/cifar{suffix.format(archive)}")
    for _ in range(2):
        assert len(published.load(tmp_path / "new").train_images) == published.n_train
    assert requested == [
        f"https://mirror.example/cifar/{archive}",
        published.data.url,
        f"https://other.example/{published.data.key}/{archive}",
    ]


def test_a_downloaded_archive_is_verified_and_read(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / published.data.python.archive).write_bytes(published.archive)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("CIFARZOO_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        found = published.load(tmp_path / "new")
        server.shutdown()
        thread.join()
    assert same(found, published.load(tmp_path, download=False))
    assert (tmp_path / "new" / published.data.python.archive).read_bytes() == published.archive


def test_the_error_for_a_failed_download_says_why_and_what_to_do(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DownloadError) as caught:
        published.load(tmp_path)
    for part in (f"{published.data.url}: ", str(tmp_path), "CIFARZOO_MIRROR", "root"):
        assert part in str(caught.value)


# Other orders and labels


cifar100 = pytest.mark.parametrize("published", ["cifar100"], indirect=True)


def reordered(content: bytes) -> dict[bytes, Any]:
    batch: dict[bytes, Any] = pickle.loads(content, encoding="bytes")
    return {key: values[::-1] for key, values in batch.items()}


@cifar100
def test_superclasses_are_the_coarse_labels(published: Release, tmp_path: Path) -> None:
    root = published.extract_to(tmp_path)
    fine, coarse = (load_cifar100(root, superclasses=each) for each in (False, True))
    assert torch.equal(coarse.test_images, fine.test_images)
    assert coarse.test_labels.tolist() == published.splits["test"][1][:, 1].tolist()
    loaders = [cifar100_loaders(4, root=root, superclasses=each) for each in (False, True)]
    assert [loader.train.classes for loader in loaders] == [CIFAR100_CLASSES, CIFAR100_SUPERCLASSES]
    assert loaders[1].test.labels.tolist() == coarse.test_labels.tolist()


def test_another_order_is_accepted_with_a_warning(published: Release, tmp_path: Path) -> None:
    expected = published.load(published.extract_to(tmp_path))
    name = [*published.contents][-1]
    (tmp_path / name).write_bytes(pickle.dumps(reordered(published.contents[name])))
    with pytest.warns(UserWarning, match=f"{name} has the published images.* order"):
        found = published.load(tmp_path)
    assert torch.equal(found.test_images, expected.test_images.flip(0))
    assert torch.equal(found.test_labels, expected.test_labels.flip(0))
    assert torch.equal(found.train_images, expected.train_images)


@cifar100
@pytest.mark.parametrize("key", [b"data", b"fine_labels", b"coarse_labels"])
def test_images_with_other_labels_are_refused(
    published: Release, tmp_path: Path, key: bytes
) -> None:
    published.extract_to(tmp_path)
    batch = reordered(published.contents["train"])
    for content in (
        {**batch, key: batch[key][::-1]},
        {**batch, key: batch[key][:-1]},
        {name: values for name, values in batch.items() if name != key},
        batch[key],
    ):
        (tmp_path / "train").write_bytes(pickle.dumps(content))
        with pytest.raises(DataCorruptError, match="train"):
            published.load(tmp_path)


# The real data


@pytest.fixture(scope="module")
def real(real_root: Path) -> ImageData:
    return load_cifar10(real_root, download=False)


@pytest.mark.data
def test_mean_and_deviation_are_the_published_ones(real: ImageData) -> None:
    pixels = real.train_images.permute(1, 0, 2, 3).flatten(1).double() / 255
    mean, std = pixels.mean(dim=1), pixels.std(dim=1, correction=0)
    assert mean.tolist() == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=5e-9)
    assert std.tolist() == pytest.approx([0.24703223, 0.24348513, 0.26158784], abs=5e-9)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:dtype")  # in torchvision, with numpy 2.4
def test_images_and_labels_agree_with_torchvision(real: ImageData, real_root: Path) -> None:
    from torchvision import datasets

    theirs: Any
    for theirs, images, labels in (
        (datasets.CIFAR10(real_root, train=True), real.train_images, real.train_labels),
        (datasets.CIFAR10(real_root, train=False), real.test_images, real.test_labels),
    ):
        assert np.array_equal(theirs.data, images.permute(0, 2, 3, 1).numpy())
        assert theirs.targets == labels.tolist()
        assert tuple(theirs.classes) == CLASSES


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*not in the published order")
def test_the_real_cifar100_has_the_published_statistics(real_root100: Path) -> None:
    data, coarse = (
        load_cifar100(real_root100, superclasses=each, download=False) for each in (False, True)
    )
    pixels = data.train_images.permute(1, 0, 2, 3).flatten(1).double() / 255
    mean, std = pixels.mean(dim=1), pixels.std(dim=1, correction=0)
    assert mean.tolist() == pytest.approx([0.50708, 0.48655, 0.44092], abs=5e-6)
    assert std.tolist() == pytest.approx([0.26733, 0.25644, 0.27615], abs=5e-6)
    for fine_labels, coarse_labels, n in (
        (data.train_labels, coarse.train_labels, 500),
        (data.test_labels, coarse.test_labels, 100),
    ):
        assert fine_labels.bincount().tolist() == [n] * len(CIFAR100_CLASSES)
        assert coarse_labels.bincount().tolist() == [5 * n] * len(CIFAR100_SUPERCLASSES)
    first = data.test_labels[:3].tolist()  # as shown in many tutorials
    assert [CIFAR100_CLASSES[label] for label in first] == ["mountain", "forest", "seal"]
