"""Tests of finding, downloading, verifying and decoding CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cifarzoo.data import cifar
from cifarzoo.data.cifar import ARCHIVE, CLASSES, FOLDER, ImageData, load_cifar10
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError

if TYPE_CHECKING:
    from tests.data.conftest import Release


def same(one: ImageData, other: ImageData) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_images_and_labels_are_in_the_order_of_the_files(
    published: Release, tmp_path: Path
) -> None:
    data = load_cifar10(published.extract_to(tmp_path))
    assert data.train_images.shape == (22, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)
    assert data.train_labels[:9].tolist() == [0, 9, 0, 5, 1, 9, 0, 5, 1]
    assert data.test_labels.tolist() == [5, 9, 0, 5, 5]
    assert data.test_labels.dtype == torch.int64
    stored = b"".join(bytes(image.flatten().tolist()) for image in data.train_images[:4])
    assert stored in published.contents["data_batch_1"]  # planes of red, green and blue, row by row


# Finding


@pytest.mark.parametrize("inside", ["", FOLDER])
def test_folder_and_archive_have_the_same_data(
    published: Release, tmp_path: Path, inside: str
) -> None:
    folder, archive = tmp_path / "folder", tmp_path / "archive" / ARCHIVE
    published.extract_to(folder / inside)
    archive.parent.mkdir()
    archive.write_bytes(published.archive)
    expected = load_cifar10(folder)
    assert same(load_cifar10(archive.parent), expected)
    assert same(load_cifar10(archive), expected)
    assert [path.name for path in archive.parent.iterdir()] == [ARCHIVE]


def test_a_missing_file_is_named(published: Release, tmp_path: Path) -> None:
    folder = published.extract_to(tmp_path / FOLDER)
    (folder / "data_batch_2").unlink()
    for root in (tmp_path, folder):
        with pytest.raises(DataNotFoundError, match=f"{FOLDER} has no data_batch_2"):
            load_cifar10(root, download=False)


def test_an_incomplete_folder_is_skipped(published: Release, tmp_path: Path) -> None:
    folder = published.extract_to(tmp_path / FOLDER)
    (folder / "test_batch").unlink()
    (tmp_path / ARCHIVE).write_bytes(published.archive)
    assert len(load_cifar10(tmp_path).test_images) == 5


def test_root_overrides_the_variable_and_the_variable_the_cache(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, named = tmp_path / "cache", tmp_path / "named"
    monkeypatch.setattr("pooch.os_cache", lambda _: str(cache))
    monkeypatch.setenv("CIFARZOO_DATA", str(named))
    with pytest.raises(DataNotFoundError) as caught:
        load_cifar10(download=False)
    for part in (named, cache, "CIFARZOO_DATA", "root", "download=True", "shapes_loaders()"):
        assert str(part) in str(caught.value)
    published.extract_to(cache)
    assert len(load_cifar10(download=False).train_images) == 22
    published.extract_to(named)
    (cache / "data_batch_1").write_bytes(b"corrupt, but not read")
    assert len(load_cifar10(download=False).train_images) == 22
    with pytest.raises(FileNotFoundError):
        load_cifar10(tmp_path / "root", download=False)


# Verifying


def changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda content: content[:-1], changed, lambda _: b"<html>"])
@pytest.mark.parametrize("name", ["data_batch_4", ARCHIVE])
def test_a_damaged_file_is_named_and_kept(
    published: Release, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / name
    if name != ARCHIVE:
        published.extract_to(tmp_path)
    bad = damage({**published.contents, ARCHIVE: published.archive}[name])
    path.write_bytes(bad)
    with pytest.raises(DataCorruptError, match="Delete it") as caught:
        load_cifar10(tmp_path)
    assert f"{path} ({len(bad):,} bytes)" in str(caught.value)
    assert path.read_bytes() == bad


def test_nothing_is_unpickled_before_it_is_verified(published: Release, tmp_path: Path) -> None:
    published.extract_to(tmp_path)
    trap = tmp_path / "sprung"
    (tmp_path / "data_batch_1").write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
    with pytest.raises(DataCorruptError):
        load_cifar10(tmp_path)
    assert not trap.exists()


def test_an_unreadable_file_is_named(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    published.extract_to(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", denied)  # root is never denied
    with pytest.raises(DataNotFoundError, match=r"data_batch_1 cannot be read: Permission denied"):
        load_cifar10(tmp_path)


# Downloading


@pytest.mark.parametrize("suffix", ["", "/", f"/{ARCHIVE}"])
def test_the_archive_is_downloaded_once_and_the_mirror_is_tried_first(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    requested: list[str] = []

    def download(urls: list[str], path: Path, *, known_hash: str, size_bytes: int) -> list[str]:
        assert (known_hash, size_bytes) == (f"md5:{cifar.MD5}", len(published.archive))
        requested.extend(urls)
        path.parent.mkdir()
        path.write_bytes(published.archive)
        return []

    monkeypatch.setattr(cifar, "download_file", download)
    monkeypatch.setenv("CIFARZOO_MIRROR", f"https://mirror.example/cifar{suffix}")
    for _ in range(2):
        assert len(load_cifar10(tmp_path / "new").train_images) == 22
    assert requested == [f"https://mirror.example/cifar/{ARCHIVE}", cifar.URL]


@pytest.mark.usefixtures("published")
def test_the_error_for_a_failed_download_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    with pytest.raises(DownloadError) as caught:
        load_cifar10(tmp_path)
    for part in (f"{cifar.URL}: ", str(tmp_path), "CIFARZOO_MIRROR", "root"):
        assert part in str(caught.value)


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
