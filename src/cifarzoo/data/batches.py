"""The files of CIFAR-10's python version: checked by hash, then decoded.

Nothing is unpickled before its SHA-256 has been seen to be the published file's, and then only by
an unpickler that knows numpy arrays and nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias, cast

import numpy as np
import torch

from cifarzoo.data.images import ImageData
from cifarzoo.errors import DataCorruptError

__all__ = [
    "CIFAR10",
    "PublishedFile",
    "Release",
    "decode",
    "missing_files",
    "read_archive",
    "read_folder",
]

NamedContent: TypeAlias = tuple[str, bytes]

WAY_OUT = "Delete it and let it be downloaded again, or point CIFARZOO_DATA at a good copy."


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file as it was published: its name, length and SHA-256."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A data set as it was published.

    Attributes:
        url: of the archive.
        archive_md5: of the archive; the only hash of it that was published.
        archive_bytes: length of the archive.
        folder: that the archive holds.
        train: files with training images, in their order.
        test: file with test images.
        meta: file with the class names; checked, not used.
    """

    url: str
    archive_md5: str
    archive_bytes: int
    folder: str
    train: tuple[PublishedFile, ...]
    test: PublishedFile
    meta: PublishedFile

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return PurePosixPath(self.url).name

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """Every file of the folder."""
        return (*self.train, self.test, self.meta)


CIFAR10 = Release(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    archive_bytes=170_498_071,
    folder="cifar-10-batches-py",
    train=(
        PublishedFile(
            "data_batch_1",
            31_035_704,
            "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        ),
        PublishedFile(
            "data_batch_2",
            31_035_320,
            "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        ),
        PublishedFile(
            "data_batch_3",
            31_035_999,
            "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        ),
        PublishedFile(
            "data_batch_4",
            31_035_696,
            "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        ),
        PublishedFile(
            "data_batch_5",
            31_035_623,
            "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        ),
    ),
    test=PublishedFile(
        "test_batch",
        31_035_526,
        "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    ),
    meta=PublishedFile(
        "batches.meta",
        158,
        "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
    ),
)


def missing_files(folder: Path, release: Release) -> list[str]:
    """List the release's files that `folder` does not hold."""
    return [file.name for file in release.files if not (folder / file.name).is_file()]


def read_folder(folder: Path, release: Release) -> Iterator[NamedContent]:
    """Read an extracted folder.

    Args:
        folder: that holds the release's files.
        release: what they must be.

    Yields:
        Each file's name and content, checked.

    Raises:
        DataCorruptError: a file is not the published one.
    """
    for file in release.files:
        path = folder / file.name
        _check_size(str(path), path.stat().st_size, file, release)  # before reading: it may be huge
        yield file.name, _checked(str(path), path.read_bytes(), file, release)


def read_archive(archive: Path, release: Release) -> Iterator[NamedContent]:
    """Read the archive without extracting it; other members are passed over.

    The members' hashes decide, not the archive's: a repacked one is as good.

    Args:
        archive: a `.tar.gz` file.
        release: what its members must be.

    Yields:
        Each file's name and content, checked.

    Raises:
        DataCorruptError: the archive cannot be read, or a member is not the published file.
    """
    left = {f"{release.folder}/{file.name}": file for file in release.files}
    limit = 2 * sum(file.size_bytes for file in release.files) + 1_000_000
    try:
        with gzip.open(archive) as unzipped, _open_tar(unzipped, limit) as tar:
            for member in _members(tar, limit):
                file = left.get(member.name.removeprefix("./"))
                if file and member.isreg():
                    del left[f"{release.folder}/{file.name}"]
                    yield file.name, _member(archive, tar, member, file, release)
                if not left:
                    return
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataCorruptError(_unreadable(archive, release, str(error))) from error
    raise DataCorruptError(_unreadable(archive, release, f"it does not hold {', '.join(left)}"))


def _member(
    archive: Path,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    file: PublishedFile,
    release: Release,
) -> bytes:
    name = f"{archive}, member {member.name}"
    _check_size(name, member.size, file, release)
    stream = tar.extractfile(member)
    return _checked(name, stream.read() if stream else b"", file, release)


def _open_tar(unzipped: gzip.GzipFile, limit: int) -> tarfile.TarFile:
    bounded = cast("IO[bytes]", _Bounded(unzipped, limit))  # a stream is only ever read
    with _header_errors():
        return tarfile.open(fileobj=bounded, mode="r|")


def _members(tar: tarfile.TarFile, limit: int) -> Iterator[tarfile.TarInfo]:
    """Give what is in an archive, one after the other, none of a size that cannot be."""
    members = iter(tar)
    while True:
        with _header_errors():
            member = next(members, None)
        if member is None:
            return
        if not 0 <= member.size <= limit:  # tarfile would look for the end of it
            raise tarfile.ReadError(f"a member claims to have {member.size:,} bytes")
        yield member


@contextlib.contextmanager
def _header_errors() -> Iterator[None]:
    """Call what tarfile stumbles over in a header by the name of its own errors."""
    try:
        yield
    except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise tarfile.ReadError(f"a header cannot be read ({error})") from error


class _Bounded:
    """Stop reading an archive that unpacks to more than it should."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(min(size, self._left + 1))
        self._left -= len(chunk)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to more than twice what was published")
        return chunk


def _unreadable(archive: Path, release: Release, reason: str) -> str:
    size = archive.stat().st_size
    published = f"the published archive has {release.archive_bytes:,} bytes"
    return f"{archive} ({size:,} bytes; {published}) is damaged: {reason}. {WAY_OUT}"


def _check_size(name: str, size_bytes: int, file: PublishedFile, release: Release) -> None:
    if size_bytes != file.size_bytes:
        kind = "truncated." if size_bytes < file.size_bytes else "not the published file."
        twin = next((each.name for each in release.files if each.size_bytes == size_bytes), None)
        kind = f"the size of {twin}; is it that file under another name?" if twin else kind
        raise DataCorruptError(
            f"{name} has {size_bytes:,} bytes, expected {file.size_bytes:,}: {kind} {WAY_OUT}"
        )


def _checked(name: str, content: bytes, file: PublishedFile, release: Release) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return content
    twin = next((other.name for other in release.files if other.sha256 == found), None)
    reason = f"it is {twin} under another name" if twin else "its content was changed"
    raise DataCorruptError(
        f"{name} has SHA-256 {found}, expected {file.sha256}: {reason}. {WAY_OUT}"
    )


def decode(files: Iterable[NamedContent], release: Release) -> ImageData:
    """Turn checked files into tensors.

    Args:
        files: names and contents, as `read_folder` and `read_archive` give them.
        release: which of them hold training and test images.

    Returns:
        The images and labels, in the release's order.
    """
    batches = {name: _unpickle(content) for name, content in files}
    train = [batches[file.name] for file in release.train]
    return ImageData(*_joined(train), *_joined([batches[release.test.name]]))


def _joined(batches: list[dict[bytes, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    stored = [batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for batch in batches]
    pixels = np.empty((sum(map(len, stored)), 32, 32, 3), np.uint8)
    np.concatenate(stored, out=pixels)
    labels = [label for batch in batches for label in batch[b"labels"]]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(labels, dtype=torch.int64)


def _dtype(name: bytes | str, *_: int) -> np.dtype[Any]:
    # The files hold Python 2's dtype(name, align=0, copy=1), which newer numpy warns about.
    return np.dtype(name.decode() if isinstance(name, bytes) else name)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # type: ignore[dict-item]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise DataCorruptError(f"a data file asks for {module}.{name}; only arrays are read")
        return _ALLOWED[module, name]


def _unpickle(content: bytes) -> dict[bytes, Any]:
    batch: dict[bytes, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return batch
