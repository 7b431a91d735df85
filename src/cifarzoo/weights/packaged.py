"""The weights that come with the package: `NAME-TAG.safetensors`, each with a `NAME-TAG.json`.

The JSON holds the fields of `Weights` and the name of the model. It is all that is known of the
file, and is checked in full before anything is loaded.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cifarzoo.errors import WeightsError
from cifarzoo.files import read_object, replacing
from cifarzoo.spec import DEFAULT_TAG, Weights, require_tag

__all__ = [
    "LIMIT_BYTES",
    "REINSTALL",
    "SCHEMA",
    "description_file",
    "packaged_file",
    "packaged_folder",
    "packaged_weights",
    "write_description",
]

LIMIT_BYTES = 45_000_000  # of all files of weights together
SCHEMA = 1
REINSTALL = "install cifarzoo anew, or in its repository `git restore` the file"

_FOLDER = Path(__file__).parent


def packaged_folder() -> Path:
    """Give the folder of the weights that come with the package."""
    return _FOLDER


def packaged_file(name: str, tag: str, folder: Path | None = None) -> Path:
    """Give the path of weights that come with the package.

    Args:
        name: of the model.
        tag: of the weights.
        folder: another one than the package's own.

    Raises:
        OptionError: such a tag cannot be.
    """
    require_tag(tag)
    return (folder or packaged_folder()) / f"{name}-{tag}.safetensors"


def description_file(name: str, tag: str, folder: Path | None = None) -> Path:
    """Give the path of the description of weights that come with the package.

    Raises:
        OptionError: such a tag cannot be.
    """
    return packaged_file(name, tag, folder).with_suffix(".json")


def packaged_weights(name: str, folder: Path | None = None) -> tuple[Weights, ...]:
    """Read what weights of a model come with the package: the default first, then by tag.

    Args:
        name: of the model; it has no hyphen, so that the file's name can be split at the first.
        folder: another one than the package's own.

    Raises:
        WeightsError: a description is damaged, or of other weights than its name says.
    """
    paths = (folder or packaged_folder()).glob(f"{name}-*.json")
    found = [_read(path, name) for path in paths]
    return tuple(sorted(found, key=lambda each: (each.tag != DEFAULT_TAG, each.tag)))


def write_description(name: str, weights: Weights, folder: Path | None = None) -> Path:
    """Write the description that lies beside a file of weights, and give its path.

    Raises:
        WeightsError: it cannot be written.
    """
    path = description_file(name, weights.tag, folder)
    content = {"schema": SCHEMA, "model": name, **asdict(weights)}
    try:
        with replacing(path) as temporary:
            text = json.dumps(content, indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"cannot write {path} ({error})") from error
    return path


def _read(path: Path, name: str) -> Weights:
    import msgspec

    try:
        content = read_object(path)
        schema, model = content.pop("schema", None), content.pop("model", None)
        if schema != SCHEMA:
            raise ValueError(f"it has schema {schema!r}; this version of cifarzoo reads {SCHEMA}")
        weights: Weights = msgspec.convert(content, Weights)
        lost = _lost(content, asdict(weights))
        if lost:
            raise ValueError(f"it has the unknown {', '.join(map(repr, lost))}")
        if path.name != f"{model}-{weights.tag}.json" or model != name:
            raise ValueError(f"it describes the weights {weights.tag!r} of {model!r}")
    except (OSError, ValueError) as error:  # JSON's and msgspec's among them
        raise WeightsError(
            f"{path} cannot be read as the description of weights: {error}; {REINSTALL}, or "
            "delete it and the .safetensors file beside it"
        ) from error
    return weights


def _lost(content: Any, kept: Any, name: str = "") -> list[str]:  # noqa: ANN401 - any JSON
    """Name what a description holds and `Weights`, or its recipe, does not."""
    if isinstance(content, dict) and isinstance(kept, dict):
        return [
            each
            for key, value in content.items()
            for path in [f"{name}.{key}" if name else key]
            for each in (_lost(value, kept[key], path) if key in kept else [path])
        ]
    if isinstance(content, list) and isinstance(kept, list | tuple):
        pairs = enumerate(zip(content, kept, strict=True))
        return [each for i, (one, two) in pairs for each in _lost(one, two, f"{name}[{i}]")]
    return []
