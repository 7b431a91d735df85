"""CIFAR-10 and CIFAR-100: find, download, verify and load them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cifarzoo.data.content import Split, checked_splits
from cifarzoo.data.decoded import keep_decoded, kept_images
from cifarzoo.data.forms import DECODED, Array, Copy, find_copies, hints, read_copy
from cifarzoo.data.published import (
    CIFAR10,
    CIFAR100,
    CIFAR100_CLASSES,
    CIFAR100_SUPERCLASSES,
    CLASSES,
    Published,
)
from cifarzoo.download import download as download_file
from cifarzoo.download import partial_path
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError
from cifarzoo.validation import expand_path

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CIFAR100_CLASSES",
    "CIFAR100_SUPERCLASSES",
    "CLASSES",
    "ImageData",
    "fetch",
    "load_cifar10",
    "load_cifar100",
    "not_found",
    "places",
    "verify",
]


class ImageData(NamedTuple):
    """Training and test images of a data set, in its published order.

    Attributes:
        train_images: uint8 (N,3,32,32), channels_last.
        train_labels: int64 (N,).
        test_images: uint8 (M,3,32,32), channels_last.
        test_labels: int64 (M,).
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_cifar10(root: str | Path | None = None, *, download: bool = True) -> ImageData:
    """Load CIFAR-10, downloading it if it is not found.

    A place may hold any of these, and the first of them is read:

    - the folder `cifar-10-batches-py`, or its files, or the archive `cifar-10-python.tar.gz`;
    - the folder `cifar-10-batches-bin`, or its files, or the archive `cifar-10-binary.tar.gz`;
    - a tree of PNG files, `train/<class>/*.png` and `test/<class>/*.png`, or a folder with one;
    - the Parquet files of the Hugging Face Hub, `plain_text/train-*.parquet` and
      `plain_text/test-*.parquet`, or a folder with them; pyarrow reads them.

    Data is accepted if all images and labels are the published ones. If they are in another order,
    it is restored where blocks of 10,000 or numbered PNG files allow it; otherwise there is a
    warning. Decoded PNG and Parquet files are kept in the user's cache.

    If the environment variable CIFARZOO_MIRROR is set to the URL of the archive, or of its folder,
    the download is tried from there first.

    Args:
        root: a folder, or the path of an archive. By default the folder in the environment
            variable CIFARZOO_DATA, then the user's cache.
        download: whether to download the archive into the first of these places.

    Returns:
        50,000 training and 10,000 test images.

    Raises:
        DataNotFoundError: the data was not found, cannot be read, or there are several trees of
            files.
        DataCorruptError: the data is not what was published.
        DownloadError: the download failed.
        MissingExtraError: only Parquet files were found, and pyarrow is not installed.
    """
    return _load(CIFAR10, root, download=download, label="label")


def load_cifar100(
    root: str | Path | None = None, *, superclasses: bool = False, download: bool = True
) -> ImageData:
    """Load CIFAR-100, downloading it if it is not found.

    As `load_cifar10`, with `cifar-100-python`, `cifar-100-binary` and `cifar100` in the names.
    Only files of the folder or archive `cifar-100-python` with the published hash are known to be
    in the published order; for others there is a warning.

    Args:
        root: as in `load_cifar10`.
        superclasses: whether labels are the 20 superclasses instead of the 100 classes.
        download: as in `load_cifar10`.

    Returns:
        50,000 training and 10,000 test images.

    Raises:
        DataNotFoundError, DataCorruptError, DownloadError, MissingExtraError: as in `load_cifar10`.
    """
    label = "coarse_label" if superclasses else "fine_label"
    return _load(CIFAR100, root, download=download, label=label)


def _load(data: Published, root: str | Path | None, *, download: bool, label: str) -> ImageData:
    searched = places(root)
    try:
        copy = _first(data, searched)
        if copy is None and download:
            fetch(data, searched)
            copy = _first(data, searched)
        if copy is None:
            raise DataNotFoundError(not_found(data, searched))
        splits = _read(data, copy)
    except PermissionError as error:
        raise DataNotFoundError(f"{error.filename} cannot be read: {error.strerror}") from error
    column = data.labels.index(label)
    train, test = ((images, labels[:, column]) for images, labels in splits.values())
    return ImageData(*_tensors(*train), *_tensors(*test))


def _tensors(images: Array, labels: Array) -> tuple[Tensor, Tensor]:
    # channels_last
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels.astype(np.int64))


def places(root: str | Path | None) -> dict[str, Path]:
    """Return where to look for the data, keyed by where each path comes from."""
    if root is not None:
        return {"root": expand_path("root", root)}
    import pooch

    folder = os.environ.get("CIFARZOO_DATA")
    named = {"CIFARZOO_DATA": expand_path("CIFARZOO_DATA", folder)} if folder else {}
    return {**named, "the user's cache": Path(pooch.os_cache("cifarzoo"))}


def _first(data: Published, searched: Mapping[str, Path]) -> Copy | None:
    """Return the first copy of the data.

    Raises:
        DataNotFoundError: there are several trees of files, which may differ.
    """
    for place in searched.values():
        found = find_copies(data, place)
        first = next(found, None)
        if first is not None and first.form in DECODED:
            second = next(found, first)
            if second != first and second.form == first.form:
                names = " and ".join(str(each.path.relative_to(place)) for each in (first, second))
                raise DataNotFoundError(
                    f"{place} has several folders with {data.name} as {first.form}, such as "
                    f"{names}: set root or CIFARZOO_DATA to one of them"
                )
        if first is not None:
            return first
    return None


def not_found(data: Published, searched: Mapping[str, Path], *failures: str) -> str:
    """Return where the data was searched, what is missing there, and what to do."""
    listed = " or ".join(f"{place} ({source})" for source, place in searched.items())
    lines = [f"{data.name} was not found in {listed}", *failures]
    for place in searched.values():
        lines += hints(data, place)
        partial = partial_path(place / data.python.archive)
        if partial.is_file():
            fraction = partial.stat().st_size / data.python.size_bytes
            lines.append(f"{partial} holds {fraction:.0%} of the archive; a download resumes there")
    return "\n".join(lines) + (
        f"\nSet CIFARZOO_DATA or root to a folder with {data.python.folder}, "
        f"{data.python.archive} or another form of it, or download it (download=True, or cifarzoo "
        f"data --fetch) from {data.url} or a CIFARZOO_MIRROR. shapes_loaders() and --data shapes "
        "need no data."
    )


def fetch(data: Published, searched: Mapping[str, Path]) -> Path:
    """Download the archive into the first place, unless it is there; return its path.

    Raises:
        DownloadError: the download failed from every host.
    """
    archive, urls = data.python.archive, data.urls
    if mirror := os.environ.get("CIFARZOO_MIRROR"):
        is_archive = mirror.endswith((".tar.gz", ".tgz"))
        urls.insert(0, mirror if is_archive else f"{mirror.rstrip('/')}/{archive}")
    path = next(iter(searched.values())) / archive
    known_hash, size_bytes = f"sha256:{data.python.sha256}", data.python.size_bytes
    failures = download_file(urls, path, known_hash=known_hash, size_bytes=size_bytes)
    if failures:
        failures.insert(0, "and could not be downloaded:")
        raise DownloadError(not_found(data, searched, *failures))
    return path


def verify(data: Published, copy: Copy) -> dict[str, Split]:
    """Read a copy and return its images (N,32,32,3) and labels (N,K) by split.

    Raises:
        DataCorruptError: the copy is not what was published.
        MissingExtraError: pyarrow is not installed.
    """
    return checked_splits(data, read_copy(data, copy))


def _read(data: Published, copy: Copy) -> dict[str, Split]:
    """Read a copy like `verify`, or its decoded images, which are kept in the user's cache."""
    if copy.form not in DECODED:
        return verify(data, copy)
    if kept := kept_images(data, copy):
        with contextlib.suppress(DataCorruptError):  # the cache was changed
            return checked_splits(data, kept)
    parts = read_copy(data, copy)
    splits = checked_splits(data, parts)
    keep_decoded(data, copy, parts)
    return splits
