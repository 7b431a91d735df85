"""Accept images and labels only if they are the published ones, and restore their order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cifarzoo.data.forms import SIDE, Array, Part, Splits, corrupt
from cifarzoo.data.published import Published, content_digest, image_hashes, order_digest

__all__ = ["Split", "checked_splits"]

Split: TypeAlias = tuple[Array, Array]


def checked_splits(data: Published, parts: Splits) -> dict[str, Split]:
    """Return images (N,32,32,3) and labels (N,K) by split, in the published order if possible.

    Parts with the published hash are not checked again. Warns if the order is not known to be the
    published one.

    Raises:
        DataCorruptError: images or labels are not the published ones.
    """
    return {split: _check(data, split, each) for split, each in parts.items()}


def _check(data: Published, split: str, parts: Sequence[Part]) -> Split:
    images = np.empty((sum(len(part.images) for part in parts), SIDE, SIDE, 3), np.uint8)
    np.concatenate([part.images for part in parts], out=images)
    labels = np.concatenate([part.labels for part in parts])
    if all(part.is_published for part in parts):
        return images, labels
    hashes = image_hashes(images, labels)
    if content_digest(hashes) != data.contents[split]:
        raise corrupt(_culprit(data, split, parts), _difference(data, split, labels))
    order = _published_order(data, split, hashes)
    if order is None:
        known = "not" if data.orders else "possibly not"
        warnings.warn(
            f"{parts[0].path} has the published images and labels, but {known} in the published "
            "order: a validation split may hold other images",
            stacklevel=2,
        )
    elif np.any(order != np.arange(len(order))):
        return images[order], labels[order]
    return images, labels


def _published_order(
    data: Published, split: str, hashes: Sequence[bytes]
) -> NDArray[np.intp] | None:
    """Return the published order if images are in it, except for the order of whole files."""
    published = data.orders.get(split)
    if not published:
        return None
    size = len(hashes) // len(published)
    found = [order_digest(hashes[i : i + size]) for i in range(0, len(hashes), size)]
    if set(found) != set(published):
        return None
    return np.concatenate([size * found.index(digest) + np.arange(size) for digest in published])


def _culprit(data: Published, split: str, parts: Sequence[Part]) -> Path:
    """Return the path of the part that was changed, as far as it is known."""
    suspects = [part for part in parts if not part.is_published]
    known = data.orders.get(split, ())
    changed = (
        part
        for part in suspects
        if order_digest(image_hashes(part.images, part.labels)) not in known
    )
    return next(changed, suspects[0]).path


def _difference(data: Published, split: str, labels: Array) -> str:
    counts = np.bincount(labels[:, 0], minlength=len(data.classes)).tolist()
    each = data.sizes[split] // len(data.classes)
    pairs = zip(counts, data.classes, strict=False)  # labels may be too large
    wrong = [f"{n:,} of {name}" for n, name in pairs if n != each]
    if wrong:
        return f"the {split} images have {', '.join(wrong[:3])}, expected {each:,} of each class"
    return "an image or a label was changed"
