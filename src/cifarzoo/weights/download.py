"""A backbone's weights that are published elsewhere: fetched once, checked every time."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import torch

from cifarzoo.errors import DownloadError
from cifarzoo.hardware import is_watched
from cifarzoo.models.backbone import BackboneWeights
from cifarzoo.weights.hashes import verify

__all__ = ["download_backbone"]

TIMEOUT_SECONDS = 60.0


def download_backbone(weights: BackboneWeights) -> Path:
    """Give the file of a backbone's published weights, fetched if it is not in torch's cache.

    Args:
        weights: where it is published, and its hash.

    Returns:
        The file, in the folder where torchvision keeps its own downloads (`TORCH_HOME`).

    Raises:
        DownloadError: it could not be fetched, or the folder cannot be written.
        WeightsError: the file in the cache is not the published one.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(weights.url).path).name
    if not path.is_file():
        _download(weights, path)
    verify(path, sha256=weights.sha256, size_bytes=weights.size_bytes)
    return path


def _download(weights: BackboneWeights, path: Path) -> None:
    import pooch

    # Without "identity" a server may send gzip data that requests would silently unpack.
    http = pooch.HTTPDownloader(
        progressbar=is_watched(),
        timeout=TIMEOUT_SECONDS,
        headers={"Accept-Encoding": "identity"},
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            weights.url, f"sha256:{weights.sha256}", path.name, path.parent, downloader=http
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError is the hash
        raise DownloadError(
            f"{weights.url} could not be downloaded: {error}\n"
            "Ways out:\n"
            f"  download it elsewhere, and put it into {path.parent} (TORCH_HOME moves that),\n"
            "    or pass its path as weights=, or --weights."
        ) from error
