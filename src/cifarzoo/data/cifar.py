"""CIFAR-10: find, download, verify and decode it.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cifarzoo.download import download as download_file
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError
from cifarzoo.validation import expand_path

__all__ = ["CLASSES", "ImageData", "load_cifar10"]

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
SIZE_BYTES = 170_498_071
MD5 = "c58f30108f718f92721af3b95e74349a"  # no other hash of the archive was published
FOLDER = "cifar-10-batches-py"
FILES = {  # SHA-256; the last file has the test images
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}


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

    Each place may hold the folder `cifar-10-batches-py`, the files of that folder, or the archive
    `cifar-10-python.tar.gz`, which is read without extracting it. The hash of every file is
    checked. If the environment variable CIFARZOO_MIRROR is set to the URL of the archive, or of its
    folder, the download is tried from there first.

    Args:
        root: a folder, or the path of the archive. By default the folder in the environment
            variable CIFARZOO_DATA, then the user's cache.
        download: whether to download the archive into the first of these places.

    Returns:
        50,000 training and 10,000 test images.

    Raises:
        DataNotFoundError: the data was not found, or cannot be read.
        DataCorruptError: a file is not the published one.
        DownloadError: the download failed.
    """
    places = _places(root)
    try:
        found = _find(places)
        if found is None and download:
            _download(places)
            found = _find(places)
        if found is None:
            raise DataNotFoundError(_not_found(places))
        return _decode(found)
    except PermissionError as error:
        raise DataNotFoundError(f"{error.filename} cannot be read: {error.strerror}") from error


def _places(root: str | Path | None) -> dict[str, Path]:
    """Return where to look for the data, keyed by where each path comes from."""
    if root is not None:
        return {"root": expand_path("root", root)}
    import pooch

    data = os.environ.get("CIFARZOO_DATA")
    places = {"CIFARZOO_DATA": expand_path("CIFARZOO_DATA", data)} if data else {}
    return {**places, "the user's cache": Path(pooch.os_cache("cifarzoo"))}


def _find(places: Mapping[str, Path]) -> Path | None:
    """Return the first folder or archive with the data."""
    for place in places.values():
        for folder in (place / FOLDER, place):
            if all((folder / name).is_file() for name in FILES):
                return folder
        for archive in (place / ARCHIVE, place):
            if archive.is_file():
                return archive
    return None


def _not_found(places: Mapping[str, Path], *failures: str) -> str:
    listed = " or ".join(f"{place} ({source})" for source, place in places.items())
    lines = [f"CIFAR-10 was not found in {listed}", *failures]
    for place in places.values():
        for folder in (place, place / FOLDER):
            missing = [name for name in FILES if not (folder / name).is_file()]
            if len(missing) < len(FILES):
                lines.append(f"{folder} has no {', '.join(missing)}")
    return "\n".join(lines) + (
        f"\nSet CIFARZOO_DATA or root to a folder with {FOLDER} or {ARCHIVE}, or download it "
        f"(download=True) from {URL} or a CIFARZOO_MIRROR. shapes_loaders() and --data shapes "
        "need no data."
    )


def _download(places: Mapping[str, Path]) -> None:
    urls = [URL]
    if mirror := os.environ.get("CIFARZOO_MIRROR"):
        is_archive = mirror.endswith((".tar.gz", ".tgz"))
        urls.insert(0, mirror if is_archive else f"{mirror.rstrip('/')}/{ARCHIVE}")
    path = next(iter(places.values())) / ARCHIVE
    failures = download_file(urls, path, known_hash=f"md5:{MD5}", size_bytes=SIZE_BYTES)
    if failures:
        raise DownloadError(_not_found(places, "and could not be downloaded:", *failures))


def _decode(found: Path) -> ImageData:
    batches = {name: _unpickle(found / name, content) for name, content in _read(found)}
    test = _join([batches.pop(list(FILES)[-1])])
    train = _join([batches[name] for name in list(FILES)[:-1]])
    return ImageData(*train, *test)


def _unpickle(path: Path, content: bytes) -> dict[bytes, Any]:
    if hashlib.sha256(content).hexdigest() != FILES[path.name]:
        raise _corrupt(path)
    with warnings.catch_warnings():
        # Python 2's pickles have 0 and 1 in place of booleans, deprecated since numpy 2.4.
        warnings.filterwarnings("ignore", r"dtype\(\): align", Warning)
        batch: dict[bytes, Any] = pickle.loads(content, encoding="bytes")
    return batch


def _read(found: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files in a folder or an archive, in any order."""
    if found.is_dir():
        for name in FILES:
            yield name, (found / name).read_bytes()
        return
    with found.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != MD5:
            raise _corrupt(found)
    with tarfile.open(found) as archive:
        for member in archive:  # in their order: going back would decompress everything again
            name = PurePosixPath(member.name).name
            if name in FILES and (content := archive.extractfile(member)):
                yield name, content.read()


def _corrupt(path: Path) -> DataCorruptError:
    return DataCorruptError(
        f"{path} ({path.stat().st_size:,} bytes) is not the published file: it is truncated, "
        "changed or misnamed. Delete it to download it again, or set CIFARZOO_DATA to another copy."
    )


def _join(batches: list[dict[bytes, Any]]) -> tuple[Tensor, Tensor]:
    parts = [batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for batch in batches]
    pixels = np.empty((sum(map(len, parts)), 32, 32, 3), np.uint8)
    np.concatenate(parts, out=pixels)
    labels = [label for batch in batches for label in batch[b"labels"]]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels_last
    return images, torch.tensor(labels, dtype=torch.int64)
