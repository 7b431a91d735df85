"""Weights into a model: by tag, or from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cifarzoo.errors import WeightsError, suggest, wrong_kind
from cifarzoo.models.backbone import BackboneWeights, TransferClassifier
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.state import SUFFIXES, load_state, only_weights_in, read_state_dict
from cifarzoo.spec import DEFAULT_TAG, ModelCard, Weights, to_path
from cifarzoo.weights.download import download_backbone
from cifarzoo.weights.hashes import verify
from cifarzoo.weights.notes import read_notes
from cifarzoo.weights.packaged import REINSTALL, packaged_file, packaged_folder

__all__ = ["holds_backbone_alone", "load_weights"]


def load_weights(
    model: ImageClassifier, weights: str | Path | None, card: ModelCard, *, download: bool = True
) -> None:
    """Put weights into a model that was built by its card.

    Args:
        model: what the card's builder gave.
        weights: None leaves the model as it is; else the tag of weights that come with the
            package, "default" for the card's first; the tag of a backbone's weights that are
            published elsewhere; or the path of a file. A file holds what `save_weights` wrote, or
            a transfer model's backbone.
        card: the model's.
        download: whether to fetch a backbone's weights that are not in torch's cache.

    Raises:
        OptionError: weights is neither a text nor a path.
        WeightsError: there are no such weights, the file is damaged, or does not fit the model.
        DownloadError: a backbone's weights could not be fetched.
    """
    if weights is None:
        return
    given: object = weights
    if not isinstance(given, str | os.PathLike):
        known = ", ".join(repr(each.tag) for each in card.weights) or "here there is none"
        raise wrong_kind("weights", given, f"None, a tag ({known}), or the path of a file")
    published = _published(model)
    tag = str(weights)
    packaged = card.weights_for(tag)
    _require_description(card, tag)
    if packaged is not None:
        _load_file(model, _verified(card, packaged), card)
    elif tag in published and isinstance(model, TransferClassifier):
        path = download_backbone(published[tag], download=download)
        model.load_backbone(read_state_dict(path), source=str(path))
    elif _is_path(weights):
        _load_file(model, to_path("weights", weights), card)
    else:
        tags = [each.tag for each in card.weights]
        raise WeightsError(_no_such(tag, card, (*tags, *published)))


def holds_backbone_alone(model: ImageClassifier, weights: str | Path, card: ModelCard) -> bool:
    """Tell whether weights would leave the head of a transfer model as it was drawn.

    Args:
        model: what the card's builder gives; its own weights do not matter.
        weights: as for `load_weights`.
        card: the model's.

    Raises:
        OptionError: weights is neither a text nor a path.
        WeightsError: it is a file, and damaged.
    """
    if not isinstance(model, TransferClassifier) or card.weights_for(str(weights)) is not None:
        return False
    if str(weights) in _published(model):
        return True
    path = to_path("weights", weights)
    return path.is_file() and not _is_whole(read_state_dict(path))


def _require_description(card: ModelCard, tag: str) -> None:
    """Refuse weights of the package whose description is gone; "default" may be any of them.

    Raises:
        WeightsError: that names the file.
    """
    known = {each.tag for each in card.weights}
    any_fits = tag == DEFAULT_TAG and DEFAULT_TAG not in known
    for path in sorted(packaged_folder().glob(f"{card.name}-*.safetensors")):
        found = path.stem.removeprefix(f"{card.name}-")
        is_lost = found not in known and not path.with_suffix(".json").exists()
        if is_lost and (any_fits or found == tag):
            raise WeightsError(
                f"{path.with_suffix('.json')}, a part of the package, is missing; {REINSTALL}; "
                "where `cifarzoo train --record` was stopped, give its command again"
            )


def _published(model: ImageClassifier) -> dict[str, BackboneWeights]:
    if not isinstance(model, TransferClassifier):
        return {}
    return {entry.tag: entry for entry in model.published}


def _is_path(weights: str | Path) -> bool:
    path = to_path("weights", weights)
    return isinstance(weights, Path) or bool(path.suffix) or len(path.parts) > 1 or path.is_file()


def _no_such(tag: str, card: ModelCard, tags: tuple[str, ...]) -> str:
    known = f"one of its tags ({', '.join(tags)}), " if tags else ""
    command = f"cifarzoo train {card.name}"
    if tag in card.recipe_tags:
        command += "" if tag == DEFAULT_TAG else f" --tag {tag}"
        reason = f"the package has no weights {tag!r} of {card.name}, only the recipe"
    else:
        reason = f"{card.name} has no weights {tag!r}"
    inside = only_weights_in(Path(tag)) if tag else None
    folder = "" if inside is None else f". {tag} is a folder; in it is {inside}"
    return (
        f"{reason}{suggest(tag, tags) or ';'} allowed: {known}the path of a file "
        f"({', '.join(SUFFIXES)}){folder}. `{command}` trains some"
    )


def _load_file(model: ImageClassifier, path: Path, card: ModelCard) -> None:
    state = read_state_dict(path)
    if isinstance(model, TransferClassifier) and not _is_whole(state):
        model.load_backbone(state, source=str(path))
        return
    try:
        load_state(model, state, source=str(path))
    except WeightsError as error:
        other = read_notes(path).get("model", card.name)
        if other != card.name:
            raise WeightsError(
                f"{path} holds weights of {other}, not of {card.name}; name that model ({error})"
            ) from error
        raise


def _is_whole(state: Mapping[str, object]) -> bool:
    return any(name.startswith(("network.", "preprocess.")) for name in state)


def _verified(card: ModelCard, weights: Weights) -> Path:
    path = packaged_file(card.name, weights.tag)
    if not path.exists():
        raise WeightsError(f"{path}, a part of the package, is missing; {REINSTALL}")
    verify(path, sha256=weights.sha256, size_bytes=weights.size_bytes, way_out=REINSTALL)
    return path
