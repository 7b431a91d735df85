"""Finds, verifies and loads weights: of the package, of a file, or a published backbone's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import torch

from cifarzoo.errors import DownloadError, WeightsError, suggest
from cifarzoo.hardware import is_watched
from cifarzoo.models.backbone import BackboneWeights, TransferClassifier
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.state import load_state, read_state_dict, require_file, save_weights
from cifarzoo.spec import ModelCard, Weights

__all__ = [
    "download_backbone",
    "load_weights",
    "packaged_file",
    "read_state_dict",
    "save_weights",
    "verify",
]

TIMEOUT_SECONDS = 60.0
_FOLDER = Path(__file__).with_name("_weights")  # not "weights": that is this module's name


def load_weights(model: ImageClassifier, weights: str | Path | None, card: ModelCard) -> None:
    """Put weights into a model that was built by its card.

    Args:
        model: what the card's builder gave.
        weights: None leaves the model as it is; "default" is the card's first; else the tag of
            weights that come with the package, the tag of a backbone's weights that are
            published elsewhere, or the path of a file. A file holds what `save_weights` wrote,
            or a transfer model's backbone.
        card: the model's.

    Raises:
        WeightsError: there are no such weights, the file is damaged, or does not fit the model.
        DownloadError: a backbone's weights could not be fetched.
    """
    if weights is None:
        return
    packaged = {entry.tag: entry for entry in card.weights}
    published = _published(model)
    tag = card.weights[0].tag if weights == "default" and card.weights else str(weights)
    if tag in packaged:
        _load_file(model, _verified(card, packaged[tag]))
    elif tag in published and isinstance(model, TransferClassifier):
        path = download_backbone(published[tag])
        model.load_backbone(read_state_dict(path), source=str(path))
    elif _is_path(weights):
        _load_file(model, Path(weights).expanduser())
    else:
        raise WeightsError(_no_such(tag, card, (*packaged, *published)))


def _published(model: ImageClassifier) -> dict[str, BackboneWeights]:
    if not isinstance(model, TransferClassifier):
        return {}
    return {entry.tag: entry for entry in model.published}


def _is_path(weights: str | Path) -> bool:
    path = Path(weights).expanduser()
    return isinstance(weights, Path) or bool(path.suffix) or len(path.parts) > 1 or path.exists()


def _no_such(tag: str, card: ModelCard, tags: tuple[str, ...]) -> str:
    if tag == "default":
        reason = f"no trained weights of {card.name} come with the package;"
    else:
        reason = f"{card.name} has no weights {tag!r}{suggest(tag, tags) or ';'}"
    known = f"one of its tags ({', '.join(tags)}), " if tags else ""
    return (
        f"{reason} allowed: {known}the path of a .safetensors or .pth file, or None for random "
        f"weights to train: `cifarzoo train {card.name}`"
    )


def _load_file(model: ImageClassifier, path: Path) -> None:
    state = read_state_dict(path)
    whole = any(name.startswith(("network.", "preprocess.")) for name in state)
    if isinstance(model, TransferClassifier) and not whole:
        model.load_backbone(state, source=str(path))
    else:
        load_state(model, state, source=str(path))


def packaged_file(card: ModelCard, weights: Weights) -> Path:
    """Give the path of weights that come with the package."""
    return _FOLDER / f"{card.name}-{weights.tag}.safetensors"


def _verified(card: ModelCard, weights: Weights) -> Path:
    path = packaged_file(card, weights)
    verify(path, sha256=weights.sha256, size_bytes=weights.size_bytes)
    return path


def verify(path: Path, *, sha256: str, size_bytes: int | None = None) -> None:
    """Refuse a file that is not the one that was published.

    Args:
        path: of the file.
        sha256: 64 lower-case hex digits.
        size_bytes: its length; None takes any.

    Raises:
        WeightsError: it is not there, or its length or hash differs.
    """
    require_file(path)
    size = path.stat().st_size
    if size_bytes is not None and size != size_bytes:
        kind = "truncated" if size < size_bytes else "another file"
        raise WeightsError(
            f"{path} has {size:,} bytes, expected {size_bytes:,}: {kind}; delete it and get it anew"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{path} has SHA-256 {found}, expected {sha256}: its content was changed; delete it "
            "and get it anew"
        )


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
