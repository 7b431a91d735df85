"""A backbone's weights that are published elsewhere: fetched once, checked every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import torch

from cifarzoo.errors import DownloadError
from cifarzoo.fetching import Patience, RemoteFile, fetch
from cifarzoo.models.backbone import BackboneWeights
from cifarzoo.weights.hashes import verify

__all__ = ["download_backbone"]

PATIENCE = Patience(timeout_seconds=60)


def download_backbone(weights: BackboneWeights, *, download: bool = True) -> Path:
    """Give the file of a backbone's published weights, fetched if it is not in torch's cache.

    Args:
        weights: where it is published, and its hash.
        download: whether to fetch it; without that it has to be there already.

    Returns:
        The file, in the folder where torchvision keeps its own downloads (`TORCH_HOME`).

    Raises:
        DownloadError: it could not, or must not, be fetched, or the folder cannot be written.
        WeightsError: the file in the cache is not the published one.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(weights.url).path).name
    if not path.is_file():
        if not download:
            raise DownloadError(_ways_out(path, "is not there, and is not to be downloaded.", ()))
        _download(weights, path)
    verify(path, sha256=weights.sha256, size_bytes=weights.size_bytes)
    return path


def _download(weights: BackboneWeights, path: Path) -> None:
    file = RemoteFile(
        name=path.name, size_bytes=weights.size_bytes, known_hash=f"sha256:{weights.sha256}"
    )
    failures = fetch(file, path.parent, [weights.url], patience=PATIENCE, is_there=path.is_file)
    if failures:
        raise DownloadError(_ways_out(path, "could not be downloaded:", failures))


def _ways_out(path: Path, what: str, failures: Sequence[str]) -> str:
    lines = (
        f"{path.name} {what}",
        *failures,
        "Ways out:",
        f"  download it elsewhere, and put it into {path.parent} (TORCH_HOME moves that),",
        "    or pass its path as weights=, or --weights.",
    )
    return "\n".join(lines)
