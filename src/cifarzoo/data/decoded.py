"""Decoded images of PNG and Parquet files, kept in the user's cache.

Decoding 60,000 PNG images takes longer than all other steps of loading together.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from cifarzoo.data.forms import Copy, Part, Splits, files_of
from cifarzoo.data.published import Published
from cifarzoo.files import replace_file

__all__ = ["keep_decoded", "kept_images"]


def kept_images(data: Published, copy: Copy) -> Splits | None:
    """Return the images of a copy from the cache; None if they are not there, or are older.

    They are to be checked like those of the copy itself.
    """
    try:
        with np.load(_path(data, copy), allow_pickle=False) as kept:
            if kept["fingerprint"].item() != _fingerprint(data, copy):
                return None
            return {
                split: [Part(copy.path, kept[f"{split}_images"], kept[f"{split}_labels"])]
                for split in data.sizes
            }
    except Exception:  # missing, or damaged, which makes numpy raise anything
        return None


def keep_decoded(data: Published, copy: Copy, parts: Splits) -> None:
    """Write the images of a copy to the cache, if it can be written, in place of older ones."""
    arrays: dict[str, Any] = {"fingerprint": np.array(_fingerprint(data, copy))}
    for split, each in parts.items():
        arrays[f"{split}_images"] = np.concatenate([part.images for part in each])
        arrays[f"{split}_labels"] = np.concatenate([part.labels for part in each])
    with contextlib.suppress(OSError), replace_file(_path(data, copy)) as file:
        np.savez(file, **arrays)


def _path(data: Published, copy: Copy) -> Path:
    import pooch

    name = hashlib.sha256(str(copy.path.absolute()).encode()).hexdigest()[:16]
    return Path(pooch.os_cache("cifarzoo")) / "decoded" / f"{data.key}-{name}.npz"


def _fingerprint(data: Published, copy: Copy) -> str:
    """Return a hash of the names, sizes and times of the files."""
    found = hashlib.sha256()
    for path in files_of(data, copy):
        name, status = path.relative_to(copy.path), path.stat()
        found.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
