"""Tests of the forms in which people have CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.conftest import (
    WRITERS,
    Array,
    Release,
    Split,
    blocks,
    contents_of,
    pinned,
    png,
    tar,
    write_binary,
    write_parquet,
    write_pngs,
    write_python,
)

from cifarzoo.data import cifar, forms
from cifarzoo.data.cifar import CIFAR10, ImageData, load_cifar10, verify
from cifarzoo.data.forms import Copy
from cifarzoo.errors import DataCorruptError, DataNotFoundError, MissingExtraError

FORMS = [*WRITERS]
cifar10 = pytest.mark.parametrize("published", ["cifar10"], indirect=True)


def order_warning(release: Release, form: str) -> AbstractContextManager[Any]:
    """Return a context that expects the warning about the order, where it cannot be checked."""
    if release.data.orders or form == "folder":
        return nullcontext()
    return pytest.warns(UserWarning, match="possibly not in the published order")


def assert_same(found: ImageData, splits: dict[str, Split]) -> None:
    for split, images, labels in (
        ("train", found.train_images, found.train_labels),
        ("test", found.test_images, found.test_labels),
    ):
        assert np.array_equal(images.permute(0, 2, 3, 1), splits[split][0])
        assert labels.tolist() == splits[split][1][:, 0].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_images_and_labels(
    published: Release, tmp_path: Path, form: str
) -> None:
    folder = WRITERS[form](published.data, published.splits, tmp_path / "data")
    for root in {tmp_path / "data", folder}:
        with order_warning(published, form):
            assert_same(published.load(root), published.splits)


@pytest.mark.parametrize("form", ["PNG files", "Parquet files"])
def test_trees_are_found_in_folders_of_a_place(
    published: Release, tmp_path: Path, form: str
) -> None:
    WRITERS[form](published.data, published.splits, tmp_path / "data" / "some name")
    (tmp_path / "data" / "other").mkdir()
    with order_warning(published, form):
        assert_same(published.load(tmp_path / "data"), published.splits)


def test_the_archive_of_the_binary_version_is_read(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = published.data.binary
    folder = write_binary(published.data, published.splits, tmp_path)
    content = tar(binary.folder, contents_of(folder, binary.files))
    archive = tmp_path / "data" / binary.archive
    archive.parent.mkdir()
    archive.write_bytes(content)
    with pytest.raises(DataCorruptError, match=binary.archive):
        published.load(archive.parent)
    known = replace(binary, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(cifar, published.data.key.upper(), replace(published.data, binary=known))
    for root in (archive.parent, archive):
        with order_warning(published, "binary archive"):
            assert_same(published.load(root), published.splits)


# Changes


def pixel(images: Array, labels: Array) -> Split:
    images = images.copy()
    images[3, 0, 0, 0] ^= 1
    return images, labels


def label(images: Array, labels: Array) -> Split:
    other = next(i for i in range(len(labels)) if labels[i, 0] != labels[3, 0])
    labels = labels.copy()
    labels[[3, other]] = labels[[other, 3]]
    return images, labels


def missing(images: Array, labels: Array) -> Split:
    return images[1:], labels[1:]


def duplicate(images: Array, labels: Array) -> Split:
    images = images.copy()
    images[np.flatnonzero(labels[:, 0] == labels[3, 0])] = images[3]
    return images, labels


def additional(images: Array, labels: Array) -> Split:
    return np.concatenate([images, images[:1]]), np.concatenate([labels, labels[:1]])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("change", [pixel, label, missing, duplicate, additional])
@pytest.mark.parametrize("form", FORMS)
def test_changed_data_is_refused_by_name_and_kept(
    published: Release,
    tmp_path: Path,
    form: str,
    change: Callable[[Array, Array], Split],
    split: str,
) -> None:
    changed = {**published.splits, split: change(*published.splits[split])}
    if change is duplicate and split == "test":  # has one image of each class
        changed["test"][0][:] = changed["test"][0][0]
    folder = WRITERS[form](published.data, changed, tmp_path / "data")
    files = {path for path in folder.rglob("*") if path.is_file()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*possibly not in the published order")
        with pytest.raises(DataCorruptError) as caught:
            published.load(tmp_path / "data")
    message = str(caught.value)
    named = {
        "folder": [folder / name for name in published.data.python.files],
        "binary folder": [folder / name for name in published.data.binary.files],
        "PNG files": [folder / "train", folder / "test"],
        "Parquet files": sorted(folder.glob("*.parquet"), reverse=True),
    }[form]
    expected = named[:-1] if split == "train" else named[-1:]
    assert any(message.startswith(f"{path} ") for path in expected), message
    if change is missing:
        assert f"the {split} images have" in message
    assert {path for path in folder.rglob("*") if path.is_file()} == files


@cifar10
@pytest.mark.parametrize("writer", [write_python, write_binary])
def test_the_changed_file_is_named(
    published: Release, tmp_path: Path, writer: Callable[..., Path]
) -> None:
    files = blocks(published.data, published.splits)
    for name in files:
        images, labels = published.splits["train" if name != "test_batch" else "test"]
        start = len(labels) // 5 * [*files].index(name) if name != "test_batch" else 0
        images = images.copy()
        images[start] ^= 1
        split = "test" if name == "test_batch" else "train"
        changed = {**published.splits, split: (images, labels)}
        folder = writer(published.data, changed, tmp_path / name)
        with pytest.raises(DataCorruptError, match=rf"{folder.name}/{name}(\.bin)? \("):
            published.load(tmp_path / name)


# Order


@cifar10
def test_the_order_of_the_files_is_restored(published: Release, tmp_path: Path) -> None:
    """Whoever reads the archive from its beginning gets the files in this order."""
    images, labels = published.splits["train"]
    order = np.concatenate([np.arange(10) + 10 * file for file in (3, 2, 1, 4, 0)])
    changed = {**published.splits, "train": (images[order], labels[order])}
    write_parquet(published.data, changed, tmp_path)
    assert_same(published.load(tmp_path), published.splits)


@pytest.mark.parametrize("name", ["{i}", "{i:05}_cat", "image {i}", "cifar10_{i:06}"])
def test_numbered_png_files_are_sorted_by_number(
    published: Release, tmp_path: Path, name: str
) -> None:
    write_pngs(published.data, published.splits, tmp_path, name)
    with order_warning(published, "PNG files"):
        assert_same(published.load(tmp_path), published.splits)


def test_numbers_may_start_anywhere() -> None:
    assert forms._order_of_numbers(["cat/50002", "cat/50004", "dog/50003"]) == [0, 2, 1]
    for names in (["cat_1", "cat_2", "dog_1"], ["1", "3"], ["1", "dog"], []):
        assert forms._order_of_numbers(names) == [*range(len(names))]


def test_png_files_without_numbers_keep_their_order_with_a_warning(
    published: Release, tmp_path: Path
) -> None:
    images, labels = published.splits["train"]
    folder = write_pngs(published.data, published.splits, tmp_path)
    for split in ("train", "test"):
        for each in published.data.classes:
            for i, path in enumerate(sorted((folder / split / each).iterdir())):
                path.rename(path.with_name(f"{each}_s_{i:04}.png"))
    with pytest.warns(UserWarning, match=r"not in the published order: a validation split"):
        found = published.load(tmp_path)
    order = np.argsort(labels[:, 0], kind="stable")
    assert found.train_labels.tolist() == labels[order, 0].tolist()
    assert np.array_equal(found.train_images.permute(0, 2, 3, 1), images[order])


# Finding


def test_faster_forms_are_preferred(published: Release, tmp_path: Path) -> None:
    for writer in WRITERS.values():
        writer(published.data, published.splits, tmp_path)
    found = [copy.form for copy in forms.find_copies(published.data, tmp_path)]
    assert found == FORMS
    assert_same(published.load(tmp_path), published.splits)


@pytest.mark.parametrize("form", ["PNG files", "Parquet files"])
def test_several_trees_are_ambiguous(published: Release, tmp_path: Path, form: str) -> None:
    for name in ("one", "two"):
        WRITERS[form](published.data, published.splits, tmp_path / name)
    with pytest.raises(DataNotFoundError, match=r"several folders.*one.* and two"):
        published.load(tmp_path)
    with order_warning(published, form):
        assert_same(published.load(tmp_path / "two"), published.splits)


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("cifar-10-batches-bin/data_batch_2.bin", "cifar-10-batches-bin has no data_batch_2.bin"),
        ("tree/test/cat", r"tree has no test/cat"),
        ("tree/test", r"tree has no test/airplane, test/automobile, test/bird …"),
        ("plain_text/test-00000-of-00001.parquet", "plain_text has no test-"),
    ],
)
@cifar10
def test_an_incomplete_copy_is_described(
    published: Release, tmp_path: Path, missing: str, hint: str
) -> None:
    write_binary(published.data, published.splits, tmp_path)
    write_parquet(published.data, published.splits, tmp_path)
    write_pngs(published.data, published.splits, tmp_path / "tree")
    part = tmp_path / missing
    for path in tmp_path.iterdir():
        if path not in (part, *part.parents) and path.is_dir():
            path.rename(tmp_path.with_name(f"{tmp_path.name} {path.name}"))
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(DataNotFoundError, match=hint):
        published.load(tmp_path, download=False)


@cifar10
def test_jpeg_files_are_no_copy(published: Release, tmp_path: Path) -> None:
    write_pngs(published.data, published.splits, tmp_path / "tree", kind="jpg")
    with pytest.raises(DataNotFoundError, match=r"tree has no PNG files.*JPEG"):
        published.load(tmp_path, download=False)


# PNG files


@cifar10
def test_an_unreadable_png_file_is_named(published: Release, tmp_path: Path) -> None:
    folder = write_pngs(published.data, published.splits, tmp_path)
    path = next((folder / "train" / "cat").iterdir())
    content = path.read_bytes()
    for bad in (content[:-100], b"<html>", b""):
        path.write_bytes(bad)
        with pytest.raises(DataCorruptError, match=rf"cat/{path.name} \("):
            published.load(tmp_path)
    Image.new("RGB", (64, 32)).save(path)
    with pytest.raises(DataCorruptError, match=rf"cat/{path.name} .* 64×32 pixels"):
        published.load(tmp_path)


@cifar10
def test_other_files_in_a_tree_are_ignored(published: Release, tmp_path: Path) -> None:
    folder = write_pngs(published.data, published.splits, tmp_path)
    for name in ("._00001.png", "Thumbs.db", "readme.txt"):
        (folder / "train" / "cat" / name).write_bytes(b"not an image")
    assert_same(published.load(tmp_path), published.splits)


# Parquet files


def test_parquet_files_need_pyarrow(
    published: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(published.data, published.splits, tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install .cifarzoo\[parquet\]"):
        published.load(tmp_path)


def test_parquet_files_of_other_data_are_no_copy(published: Release, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / published.data.config
    folder.mkdir()
    for split in ("train", "test"):
        table = pa.table({"text": ["good", "bad"], "label": [1, 0]})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    assert [*forms.find_copies(published.data, tmp_path)] == []
    for path in folder.iterdir():
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataNotFoundError, match=r"train-.*parquet is no Parquet file with.* img"):
        published.load(tmp_path, download=False)


@cifar10
def test_the_two_data_sets_are_not_confused(published: Release, tmp_path: Path) -> None:
    for writer in (write_pngs, write_parquet):
        writer(published.data, published.splits, tmp_path / writer.__name__)
        assert [*forms.find_copies(cifar.CIFAR100, tmp_path / writer.__name__)] == []


@cifar10
def test_a_damaged_parquet_file_is_named(published: Release, tmp_path: Path) -> None:
    folder = write_parquet(published.data, published.splits, tmp_path)
    path = next(folder.glob("train-*"))
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(DataCorruptError, match=rf"{path.name} \("):
        published.load(tmp_path)


# The cache of decoded images


@pytest.fixture(params=["PNG files", "Parquet files"])
def decoded(
    request: pytest.FixtureRequest, published: Release, tmp_path: Path
) -> Iterator[tuple[Path, Path]]:
    """Return a folder with a copy, and the file with its decoded images."""
    with warnings.catch_warnings(action="ignore"):  # about the order
        WRITERS[request.param](published.data, published.splits, tmp_path / "data")
        published.load(tmp_path / "data")
        (kept,) = (tmp_path / "user_cache" / "decoded").iterdir()
        yield tmp_path / "data", kept


def test_images_are_decoded_once(
    published: Release, decoded: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "_decode_png", lambda *_: pytest.fail("decoded again"))
    assert_same(published.load(decoded[0]), published.splits)


def test_changed_files_are_read_again(published: Release, decoded: tuple[Path, Path]) -> None:
    path = next(path for path in decoded[0].rglob("*") if path.is_file())
    content = path.read_bytes()
    path.write_bytes(content[:20] + bytes(30) + content[50:])
    with pytest.raises(DataCorruptError, match=path.name):
        published.load(decoded[0])


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_cache_is_replaced(
    published: Release, decoded: tuple[Path, Path], damage: str
) -> None:
    folder, kept = decoded
    content = kept.read_bytes()
    if damage == "changed":
        arrays = dict(np.load(kept))
        arrays["train_images"][0, 0, 0, 0] ^= 1
        np.savez(kept, **arrays)
    else:
        kept.write_bytes(content[:1000] if damage == "truncated" else b"")
    assert_same(published.load(folder), published.splits)
    assert len(kept.read_bytes()) == len(content)
    with np.load(kept) as arrays:
        assert np.array_equal(arrays["train_images"], published.splits["train"][0])


def test_without_a_cache_images_are_decoded_each_time(
    published: Release, decoded: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda _: str(decoded[1] / "inside a file"))
    assert_same(published.load(decoded[0]), published.splits)


# The real data


@pytest.fixture(scope="module")
def real(real_root: Path) -> ImageData:
    return load_cifar10(real_root, download=False)


@pytest.mark.data
def test_pinned_digests_are_those_of_the_real_data(real_root: Path) -> None:
    copy = Copy("folder", real_root / CIFAR10.python.folder)
    unpinned = replace(CIFAR10, hashes=dict.fromkeys(CIFAR10.python.files, "md5:"))
    for split, (images, _) in verify(unpinned, copy).items():  # warns if the order is another
        assert len(images) == CIFAR10.sizes[split]


@pytest.fixture
def gigabyte(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a temporary folder, in memory if possible: disks may delete files slowly."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        monkeypatch.setattr("pooch.os_cache", lambda _: f"{folder}/user_cache")
        yield Path(folder)


@pytest.mark.data
@pytest.mark.slow
def test_the_forms_of_the_real_data_have_equal_tensors(
    real: ImageData, real_root: Path, gigabyte: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {
        split: (images.permute(0, 2, 3, 1).numpy(), labels.numpy().astype(np.uint8)[:, None])
        for split, images, labels in (
            ("train", real.train_images, real.train_labels),
            ("test", real.test_images, real.test_labels),
        )
    }
    contents = contents_of(real_root / CIFAR10.python.folder, CIFAR10.python.files)
    archive = tar(CIFAR10.python.folder, contents)
    monkeypatch.setattr(cifar, "CIFAR10", pinned(CIFAR10, contents, archive))
    (gigabyte / "archive").mkdir()
    (gigabyte / "archive" / CIFAR10.python.archive).write_bytes(archive)
    for writer in (write_binary, write_pngs, write_parquet):
        writer(CIFAR10, splits, gigabyte / writer.__name__)
    png.cache_clear()
    for folder in sorted(gigabyte.iterdir()):
        found = load_cifar10(folder, download=False)
        assert all(map(torch.equal, found, real))
    path = gigabyte / "write_binary" / CIFAR10.binary.folder / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[12345] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataCorruptError, match=path.name):
        load_cifar10(path.parent, download=False)
