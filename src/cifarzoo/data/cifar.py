"""CIFAR-10 and CIFAR-100: find, download, verify and decode them.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from cifarzoo.download import download as download_file
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError
from cifarzoo.validation import expand_path

__all__ = [
    "CIFAR100_CLASSES",
    "CIFAR100_SUPERCLASSES",
    "CLASSES",
    "ImageData",
    "load_cifar10",
    "load_cifar100",
]

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar",
    "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile",
    "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster",
    "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster",
    "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip
CIFAR100_SUPERCLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip

HOST = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published data set: its archive, and the files in it.

    Attributes:
        name: name of the data set, for messages.
        archive: name of the archive.
        size_bytes: size of the archive.
        md5: MD5 of the archive; no other hash of it was published.
        folder: folder in the archive.
        files: hash of each file, prefixed with its algorithm; the last file has the test images.
        contents: SHA-256 of a file's images and labels in any order, by file. Other files must have
            the hash in `files`.
        labels: keys of the labels in the files.
    """

    name: str
    archive: str
    size_bytes: int
    md5: str
    folder: str
    files: Mapping[str, str]
    contents: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[bytes, ...]

    @property
    def url(self) -> str:
        """The address of the archive."""
        return f"{HOST}/{self.archive}"


CIFAR10 = Published(
    name="CIFAR-10",
    archive="cifar-10-python.tar.gz",
    size_bytes=170_498_071,
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    files={
        "data_batch_1": "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    labels=(b"labels",),
)
CIFAR100 = Published(
    name="CIFAR-100",
    archive="cifar-100-python.tar.gz",
    size_bytes=169_001_437,
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    files={
        "train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    # Copies that were put together from picture files are in another order; see `_digest`.
    contents={
        "train": "6a3da500cc493da0a1a9bbcfcfe109d7ba2efc9bf82503ad5cd36858a6028615",
        "test": "7a30d5898455b2aa521118b56fc9747346f212bc6a121d7a7e1a93bcee07e598",
    },
    labels=(b"fine_labels", b"coarse_labels"),
)


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
    return _load(CIFAR10, root, download=download, labels=b"labels")


def load_cifar100(
    root: str | Path | None = None, *, superclasses: bool = False, download: bool = True
) -> ImageData:
    """Load CIFAR-100, downloading it if it is not found.

    As `load_cifar10`, with the folder `cifar-100-python` and the archive `cifar-100-python.tar.gz`.
    In a folder, a file that has the published images and labels in another order is read with a
    warning.

    Args:
        root: as in `load_cifar10`.
        superclasses: whether labels are the 20 superclasses instead of the 100 classes.
        download: as in `load_cifar10`.

    Returns:
        50,000 training and 10,000 test images.

    Raises:
        DataNotFoundError, DataCorruptError, DownloadError: as in `load_cifar10`.
    """
    labels = b"coarse_labels" if superclasses else b"fine_labels"
    return _load(CIFAR100, root, download=download, labels=labels)


def _load(data: Published, root: str | Path | None, *, download: bool, labels: bytes) -> ImageData:
    places = _places(root)
    try:
        found = _find(data, places)
        if found is None and download:
            _download(data, places)
            found = _find(data, places)
        if found is None:
            raise DataNotFoundError(_not_found(data, places))
        return _decode(data, found, labels)
    except PermissionError as error:
        raise DataNotFoundError(f"{error.filename} cannot be read: {error.strerror}") from error


def _places(root: str | Path | None) -> dict[str, Path]:
    """Return where to look for the data, keyed by where each path comes from."""
    if root is not None:
        return {"root": expand_path("root", root)}
    import pooch

    folder = os.environ.get("CIFARZOO_DATA")
    places = {"CIFARZOO_DATA": expand_path("CIFARZOO_DATA", folder)} if folder else {}
    return {**places, "the user's cache": Path(pooch.os_cache("cifarzoo"))}


def _find(data: Published, places: Mapping[str, Path]) -> Path | None:
    """Return the first folder or archive with the data."""
    for place in places.values():
        for folder in (place / data.folder, place):
            if all((folder / name).is_file() for name in data.files):
                return folder
        for archive in (place / data.archive, place):
            if archive.is_file():
                return archive
    return None


def _not_found(data: Published, places: Mapping[str, Path], *failures: str) -> str:
    listed = " or ".join(f"{place} ({source})" for source, place in places.items())
    lines = [f"{data.name} was not found in {listed}", *failures]
    for place in places.values():
        for folder in (place, place / data.folder):
            missing = [name for name in data.files if not (folder / name).is_file()]
            if len(missing) < len(data.files):
                lines.append(f"{folder} has no {', '.join(missing)}")
    return "\n".join(lines) + (
        f"\nSet CIFARZOO_DATA or root to a folder with {data.folder} or {data.archive}, or "
        f"download it (download=True) from {data.url} or a CIFARZOO_MIRROR. shapes_loaders() and "
        "--data shapes need no data."
    )


def _download(data: Published, places: Mapping[str, Path]) -> None:
    urls = [data.url]
    if mirror := os.environ.get("CIFARZOO_MIRROR"):
        is_archive = mirror.endswith((".tar.gz", ".tgz"))
        urls.insert(0, mirror if is_archive else f"{mirror.rstrip('/')}/{data.archive}")
    path = next(iter(places.values())) / data.archive
    failures = download_file(urls, path, known_hash=f"md5:{data.md5}", size_bytes=data.size_bytes)
    if failures:
        raise DownloadError(_not_found(data, places, "and could not be downloaded:", *failures))


def _decode(data: Published, found: Path, labels: bytes) -> ImageData:
    batches = {name: _batch(data, found / name, content) for name, content in _read(data, found)}
    *train, test = (batches[name] for name in data.files)
    return ImageData(*_join(train, labels), *_join([test], labels))


def _batch(data: Published, path: Path, content: bytes) -> dict[bytes, Any]:
    """Return the images and labels of a file.

    Raises:
        DataCorruptError: the file has neither the published hash nor the published content.
    """
    algorithm, _, expected = data.files[path.name].partition(":")
    is_published = hashlib.new(algorithm, content).hexdigest() == expected
    if not is_published and path.name not in data.contents:
        raise _corrupt(path)
    try:
        batch: dict[bytes, Any] = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        is_same = is_published or _digest(batch, data.labels) == data.contents[path.name]
    except Exception as error:  # damaged bytes make a parser raise anything
        raise _corrupt(path) from error
    if not is_same:
        raise _corrupt(path)
    if not is_published:
        warnings.warn(
            f"{path} has the published images and labels, but not in the published order",
            stacklevel=2,
        )
    return batch


class _Unpickler(pickle.Unpickler):
    """Reads arrays and built-in types; refuses other objects, which could execute code."""

    _ALLOWED = (
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    )

    @override
    def load(self) -> Any:
        with warnings.catch_warnings():
            # Python 2's pickles have 0 and 1 in place of booleans, deprecated since numpy 2.4.
            warnings.filterwarnings("ignore", r"dtype\(\): align", Warning)
            return super().load()

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def _digest(batch: dict[bytes, Any], labels: tuple[bytes, ...]) -> str:
    """Return the SHA-256 of the sorted hashes of each image with its labels."""
    rows = zip(batch[b"data"], *(batch[key] for key in labels), strict=True)
    hashes = [hashlib.sha256(pixels.tobytes() + bytes(own)).digest() for pixels, *own in rows]
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


def _read(data: Published, found: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files in a folder or an archive, in any order."""
    if found.is_dir():
        for name in data.files:
            yield name, (found / name).read_bytes()
        return
    with found.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != data.md5:
            raise _corrupt(found)
    with tarfile.open(found) as archive:
        for member in archive:  # in their order: going back would decompress everything again
            name = PurePosixPath(member.name).name
            if name in data.files and (content := archive.extractfile(member)):
                yield name, content.read()


def _corrupt(path: Path) -> DataCorruptError:
    return DataCorruptError(
        f"{path} ({path.stat().st_size:,} bytes) is not the published file: it is truncated, "
        "changed or misnamed. Delete it to download it again, or set CIFARZOO_DATA to another copy."
    )


def _join(batches: list[dict[bytes, Any]], labels: bytes) -> tuple[Tensor, Tensor]:
    parts = [batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for batch in batches]
    pixels = np.empty((sum(map(len, parts)), 32, 32, 3), np.uint8)
    np.concatenate(parts, out=pixels)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels_last
    numbers = [label for batch in batches for label in batch[labels]]
    return images, torch.tensor(numbers, dtype=torch.int64)
