"""CIFAR-10: found on disk or downloaded, verified by hash, decoded.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifarzoo.data.batches import (
    CIFAR10,
    Release,
    decode,
    missing_files,
    read_archive,
    read_folder,
)
from cifarzoo.data.images import ImageData
from cifarzoo.errors import DataNotFoundError, DownloadError
from cifarzoo.fetching import Patience, RemoteFile, fetch
from cifarzoo.spec import to_path

__all__ = ["CLASSES", "load_cifar10"]

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load_cifar10(root: str | Path | None = None, *, download: bool = True) -> ImageData:
    """Find CIFAR-10, verify every file by hash, and decode it.

    It is looked for in `root` alone if given, else in the folder that `CIFARZOO_DATA` names, then
    in the user's cache folder. There, a folder `cifar-10-batches-py`, its files
    themselves, and the archive `cifar-10-python.tar.gz` alone all serve; an archive is read
    without being extracted. A download goes to the first of these places, from the host that
    `CIFARZOO_MIRROR` names (a folder's URL, or the archive's) if it is set, then from the
    canonical one.

    Args:
        root: a folder, or the archive's path; None looks in `CIFARZOO_DATA` or the cache.
        download: fetch the archive where nothing is found.

    Returns:
        50,000 training and 10,000 test images, uint8 (N,3,32,32), in the published order.

    Raises:
        DataNotFoundError: the data is not there, and download is off.
        DataCorruptError: a file is truncated, swapped or changed.
        DownloadError: no host gave the data.
    """
    first, *others = _places(root)
    return _load(first, CIFAR10, patience=Patience() if download else None, others=others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the data is looked for, and why there."""

    path: Path
    origin: str


def _places(root: str | Path | None) -> tuple[Place, ...]:
    if root is not None:
        return (Place(path=to_path("root", root), origin="root"),)
    import pooch

    cache = Path(pooch.os_cache("cifarzoo"))
    named = os.environ.get("CIFARZOO_DATA")
    if not named:
        return (Place(path=cache, origin="the user's cache folder; CIFARZOO_DATA is not set"),)
    return (
        Place(path=to_path("CIFARZOO_DATA", named), origin="CIFARZOO_DATA"),
        Place(path=cache, origin="the user's cache folder"),
    )


def _load(
    place: Place, release: Release, *, patience: Patience | None, others: Sequence[Place] = ()
) -> ImageData:
    """Read the data from the first place that has it; a download goes to `place`."""
    try:
        return _found(place, release, patience=patience, others=others)
    except PermissionError as error:
        raise DataNotFoundError(
            f"CIFAR-10 may not be read: {error.filename} ({error.strerror}); mend its permissions, "
            f"or name another folder than {place.path} ({place.origin})"
        ) from error


def _found(
    place: Place, release: Release, *, patience: Patience | None, others: Sequence[Place]
) -> ImageData:
    places = (place, *others)
    found = (_find(each.path, release) for each in places)
    files = next((contents for contents in found if contents is not None), None)
    # A path to a file that is not there is a typing mistake, not a place to download to.
    if files is None and patience is not None and not _names_archive(place.path):
        _download(place, release, patience)
        files = _find(place.path, release)
    if files is None:
        looked_at = [line for each in places for line in _looked_at(each, release)]
        raise DataNotFoundError("\n".join([*looked_at, *_ways_out(release)]))
    return decode(files, release)


def _names_archive(path: Path) -> bool:
    return path.suffix in (".gz", ".tgz")


def _find(path: Path, release: Release) -> Iterator[tuple[str, bytes]] | None:
    if path.is_file():
        return read_archive(path, release)
    for folder in (path / release.folder, path):
        if not missing_files(folder, release):
            return read_folder(folder, release)
    archive = path / release.archive
    return read_archive(archive, release) if archive.is_file() else None


def _looked_at(place: Place, release: Release) -> list[str]:
    head = f"CIFAR-10 is not in {place.path} ({place.origin})"
    if _names_archive(place.path):
        return [f"{head}: there is no such file."]
    lines = [f"{head}. Looked at:"]
    for folder in (place.path / release.folder, place.path):
        missing = missing_files(folder, release)
        partly = len(missing) < len(release.files)
        lines.append(f"  {folder}: {'lacks ' + ', '.join(missing) if partly else 'no data files'}")
    return [*lines, f"  {place.path / release.archive}: not there"]


def _ways_out(release: Release) -> list[str]:
    return [
        "Ways out:",
        f"  - set CIFARZOO_DATA, or pass root=, to a folder that holds {release.folder} or",
        f"    {release.archive};",
        f"  - have it downloaded (download=True) from {release.url},",
        "    or from the host whose URL is in CIFARZOO_MIRROR;",
        "  - try things on the built-in shapes instead: shapes_loaders(), or --data shapes.",
    ]


def _download(place: Place, release: Release, patience: Patience) -> None:
    failures = fetch(
        RemoteFile(
            name=release.archive,
            size_bytes=release.archive_bytes,
            known_hash=f"md5:{release.archive_md5}",
        ),
        place.path,
        _urls(release),
        patience=patience,
        is_there=lambda: _find(place.path, release) is not None,
    )
    if failures:
        lines = [*_looked_at(place, release), "Downloading it failed:", *failures]
        raise DownloadError("\n".join([*lines, *_ways_out(release)]))


def _urls(release: Release) -> list[str]:
    mirror = os.environ.get("CIFARZOO_MIRROR", "")
    if not mirror:
        return [release.url]
    whole = mirror.endswith((".tar.gz", ".tgz"))
    return [mirror if whole else f"{mirror.rstrip('/')}/{release.archive}", release.url]
