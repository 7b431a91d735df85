"""The forms in which people have CIFAR-10 and CIFAR-100: find them, and read them.

Readers do not check the content; `cifarzoo.data.content` does.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import re
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from cifarzoo.data.published import Published, VersionName
from cifarzoo.errors import DataCorruptError, MissingExtraError

__all__ = [
    "DECODED",
    "SIDE",
    "Array",
    "Copy",
    "FormName",
    "Part",
    "Splits",
    "corrupt",
    "files_of",
    "find_copies",
    "hints",
    "read_copy",
]

Array: TypeAlias = NDArray[np.uint8]
FormName: TypeAlias = Literal[
    "folder", "archive", "binary folder", "binary archive", "PNG files", "Parquet files"
]

SIDE = 32  # pixels
PIXEL_BYTES = 3 * SIDE * SIDE  # of an image
DECODED: Sequence[FormName] = ("PNG files", "Parquet files")  # forms that are slow to read


class Copy(NamedTuple):
    """A copy of a data set on disk.

    Attributes:
        form: name of its form.
        path: its folder, or its archive.
    """

    form: FormName
    path: Path


class Part(NamedTuple):
    """Images of a split, or of one of its files.

    Attributes:
        path: where they are from.
        images: uint8 (N,32,32,3).
        labels: uint8 (N,K), in the order of `Published.labels`.
        is_published: whether the file has the published hash.
    """

    path: Path
    images: Array
    labels: Array
    is_published: bool = False


Splits: TypeAlias = dict[str, list[Part]]


def find_copies(data: Published, place: Path) -> Iterator[Copy]:
    """Yield the copies of a data set at a place, those that are read fastest first."""
    for form, (find, _) in _FORMS.items():
        yield from (Copy(form, path) for path in find(data, place))


def read_copy(data: Published, copy: Copy) -> Splits:
    """Return the parts of each split.

    Raises:
        DataCorruptError: a file cannot be read as what it should be.
        MissingExtraError: pyarrow is not installed.
    """
    return _FORMS[copy.form][1](data, copy.path)


def hints(data: Published, place: Path) -> Iterator[str]:
    """Yield what copies at a place lack."""
    for version in (data.python, data.binary):
        for folder in (place, place / version.folder):
            missing = [name for name in version.files if not (folder / name).is_file()]
            if len(missing) < len(version.files):
                yield f"{folder} has no {', '.join(missing)}"
    files = {split: _parquet_files(place / data.config, split) for split in data.sizes}
    for split, found in files.items():
        if not found and any(files.values()):
            yield f"{place / data.config} has no {split}-*.parquet"
        elif found and not _has_columns(data, found[0]):
            yield f"{found[0]} is no Parquet file with columns img and {' and '.join(data.labels)}"
    for folder in (place, *_subfolders(place)):
        inner = _class_folders(data, folder)
        missing = [str(path.relative_to(folder)) for path in inner if not _is_folder(path)]
        if not missing and not _has_png(inner[0]):
            yield f"{folder} has no PNG files; other formats, such as JPEG, change pixels"
        elif 0 < len(missing) <= len(inner) // 2:
            yield f"{folder} has no {', '.join(missing[:3])}{' …' if missing[3:] else ''}"


def corrupt(path: Path, reason: str = "it is truncated, changed or misnamed") -> DataCorruptError:
    """Return the error for a file or folder that does not hold what was published."""
    size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
    return DataCorruptError(
        f"{path}{size} is not as published: {reason}. Delete this copy to download the data, or "
        "set CIFARZOO_DATA to another one."
    )


# Files of the python and the binary version, in a folder or an archive.


def _folders(version: VersionName, data: Published, place: Path) -> Iterator[Path]:
    published = data.version(version)
    for folder in (place / published.folder, place):
        if all((folder / name).is_file() for name in published.files):
            yield folder


def _archives(version: VersionName, data: Published, place: Path) -> Iterator[Path]:
    """Yield archives; a file of any name may be the archive of the python version."""
    for archive in (place / data.version(version).archive, place):
        is_binary = archive.name == data.binary.archive
        if archive.is_file() and is_binary == (version == "binary"):
            yield archive


def _read_folder(version: VersionName, data: Published, folder: Path) -> Splits:
    paths = [folder / name for name in data.version(version).files]
    return _by_split(_DECODE[version](data, path, path.read_bytes()) for path in paths)


def _read_archive(version: VersionName, data: Published, archive: Path) -> Splits:
    published, parts = data.version(version), {}
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != published.sha256:
            raise corrupt(archive)
    with tarfile.open(archive) as members:
        for member in members:  # in their order: going back would decompress everything again
            name = PurePosixPath(member.name).name
            if name in published.files and (content := members.extractfile(member)):
                parts[name] = _DECODE[version](data, archive / name, content.read())
    return _by_split(parts[name] for name in published.files)


def _by_split(parts: Iterable[Part]) -> Splits:
    *train, test = parts
    return {"train": train, "test": [test]}


def _decode_python(data: Published, path: Path, content: bytes) -> Part:
    algorithm, _, expected = data.hashes[path.name].partition(":")
    is_published = hashlib.new(algorithm, content).hexdigest() == expected
    try:
        if not is_published:
            _require_small_memo(content)
        batch: dict[bytes, Any] = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        planes = batch[b"data"]
        columns = [bytes(iter(batch[f"{name}s".encode()])) for name in data.labels]
        labels = np.stack([np.frombuffer(column, np.uint8) for column in columns], axis=1)
        return _part(path, planes, labels, is_published)
    except Exception as error:  # damaged bytes make a parser raise anything
        raise corrupt(path) from error


def _decode_binary(data: Published, path: Path, content: bytes) -> Part:
    n_labels = len(data.labels)
    if not content or len(content) % (n_labels + PIXEL_BYTES):
        raise corrupt(path)
    rows = np.frombuffer(content, np.uint8).reshape(-1, n_labels + PIXEL_BYTES)
    labels = rows[:, :n_labels][:, ::-1]  # the superclass comes first
    return _part(path, rows[:, n_labels:], labels)


def _part(path: Path, planes: Array, labels: Array, is_published: bool = False) -> Part:
    """Return a part with images given as rows of planes, (N,3072)."""
    if planes.dtype != np.uint8 or planes.shape != (len(labels), PIXEL_BYTES):
        raise corrupt(path)
    images = planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(path, images, labels, is_published)


def _require_small_memo(content: bytes) -> None:
    """Raise for damaged sizes, for which an unpickler would allocate gigabytes."""
    puts = 0
    for opcode, argument, _ in pickletools.genops(content):  # raises for too long strings
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            puts += 1
            if puts < (argument or 0):
                raise pickle.UnpicklingError(f"{argument} is too large an index")


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


# PNG files, train/<class>/*.png and test/<class>/*.png


def _trees(data: Published, place: Path) -> Iterator[Path]:
    def is_tree(folder: Path) -> bool:
        inner = _class_folders(data, folder)
        return all(map(_is_folder, inner)) and _has_png(inner[0])

    yield from _here_or_below(place, lambda folder: folder if is_tree(folder) else None)


def _class_folders(data: Published, folder: Path) -> list[Path]:
    return [folder / split / name for split in data.sizes for name in data.classes]


def _has_png(folder: Path) -> bool:
    return any(True for _ in _pngs(folder))


def _pngs(folder: Path) -> Iterator[Path]:
    hidden = (".", "__")  # such as the copies of metadata that macOS adds
    return (path for path in folder.glob("*.png") if not path.name.startswith(hidden))


def _read_tree(data: Published, folder: Path) -> Splits:
    return {split: [_png_part(data, folder / split)] for split in data.sizes}


def _png_part(data: Published, folder: Path) -> Part:
    files = [
        (path, label)
        for label, name in enumerate(data.classes)
        for path in sorted(_pngs(folder / name))
    ]
    order = _order_of_numbers([path.stem for path, _ in files])
    files = [files[i] for i in order]
    images = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    for image, (path, _) in zip(images, files, strict=True):
        image[:] = _decode_png(path, path)
    labels = np.array([label for _, label in files], np.uint8)[:, None]
    if data.superclass_of:
        above = np.array(data.superclass_of, np.uint8)[labels]
        labels = np.concatenate([labels, above], axis=1)
    return Part(folder, images, labels)


def _order_of_numbers(names: list[str]) -> list[int]:
    """Return the order of the last numbers in names if these count all files, else their order.

    Example:
        >>> _order_of_numbers(["7_cat", "9_cat", "8_dog"])
        [0, 2, 1]
        >>> _order_of_numbers(["cat_1", "cat_2", "dog_1"])
        [0, 1, 2]
    """
    numbers = [int(found[-1]) if (found := re.findall(r"\d+", name)) else -1 for name in names]
    order = sorted(range(len(names)), key=numbers.__getitem__)
    counts = all(numbers[i] == numbers[order[0]] + place for place, i in enumerate(order))
    return order if counts else [*range(len(names))]


def _decode_png(source: Path | io.BytesIO, path: Path) -> Array:
    from PIL import Image

    try:
        with Image.open(source, formats=("PNG",)) as image:
            if image.size == (SIDE, SIDE):
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except PermissionError:
        raise
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise corrupt(path, "an image is truncated, damaged or not a PNG file") from error
    raise corrupt(path, f"an image has {image.width}×{image.height} pixels, expected 32×32")


# Parquet files of the Hugging Face Hub


def _parquet_folders(data: Published, place: Path) -> Iterator[Path]:
    def inner(folder: Path) -> Path | None:
        for candidate in (folder / data.config, folder):
            files = [_parquet_files(candidate, split)[:1] for split in data.sizes]
            if all(found and _has_columns(data, found[0]) for found in files):
                return candidate
        return None

    yield from _here_or_below(place, inner)


def _parquet_files(folder: Path, split: str) -> list[Path]:
    return sorted(folder.glob(f"{split}-*.parquet"))


def _has_columns(data: Published, path: Path) -> bool:
    """Return whether the names of the columns are in the footer of a file, without pyarrow."""
    try:
        with path.open("rb") as file:
            file.seek(-8, io.SEEK_END)
            size, magic = int.from_bytes(file.read(4), "little"), file.read()
            file.seek(-8 - size, io.SEEK_END)
            footer = file.read(size)
    except OSError:
        return False
    # Thrift's compact protocol writes the length before a string.
    names = [bytes([len(name)]) + name.encode() for name in ("img", *data.labels)]
    return magic == b"PAR1" and all(name in footer for name in names)


def _read_parquet(data: Published, folder: Path) -> Splits:
    return {
        split: [_parquet_part(data, path) for path in _parquet_files(folder, split)]
        for split in data.sizes
    }


def _parquet_part(data: Published, path: Path) -> Part:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            f'reading {path} needs pyarrow: pip install "cifarzoo[parquet]"'
        ) from error
    try:
        table = parquet.ParquetFile(path).read(columns=["img", *data.labels])
        contents = [image["bytes"] for image in table["img"].to_pylist()]
        columns = [bytes(table[name].to_pylist()) for name in data.labels]
        labels = np.stack([np.frombuffer(column, np.uint8) for column in columns], axis=1)
        return Part(path, np.stack([_decode_png(io.BytesIO(c), path) for c in contents]), labels)
    except (DataCorruptError, PermissionError):
        raise
    except Exception as error:  # damaged bytes make a parser raise anything
        raise corrupt(path) from error


# All forms


def _here_or_below(place: Path, match: Callable[[Path], Path | None]) -> Iterator[Path]:
    """Yield what matches a folder; if nothing does, what matches the folders in it."""
    if found := match(place):
        yield found
        return
    yield from (found for folder in _subfolders(place) if (found := match(folder)))


def _subfolders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if _is_folder(path))
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # not readable
        return False


def files_of(data: Published, copy: Copy) -> list[Path]:
    """Return the files of a copy in PNG or Parquet files."""
    if copy.form == "Parquet files":
        return [path for split in data.sizes for path in _parquet_files(copy.path, split)]
    return [path for folder in _class_folders(data, copy.path) for path in sorted(_pngs(folder))]


_DECODE: dict[VersionName, Callable[[Published, Path, bytes], Part]] = {
    "python": _decode_python,
    "binary": _decode_binary,
}
_FORMS: dict[
    FormName,
    tuple[Callable[[Published, Path], Iterator[Path]], Callable[[Published, Path], Splits]],
] = {
    "folder": (partial(_folders, "python"), partial(_read_folder, "python")),
    "archive": (partial(_archives, "python"), partial(_read_archive, "python")),
    "binary folder": (partial(_folders, "binary"), partial(_read_folder, "binary")),
    "binary archive": (partial(_archives, "binary"), partial(_read_archive, "binary")),
    "PNG files": (_trees, _read_tree),
    "Parquet files": (_parquet_folders, _read_parquet),
}
