"""Checkpoints: the state of a run in one file that is written atomically."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cifarzoo.data.loader import BatchLoader, Fingerprinted, Loaders
from cifarzoo.errors import CheckpointError
from cifarzoo.files import replace_file
from cifarzoo.recipe import Recipe
from cifarzoo.training import distributed
from cifarzoo.validation import stable_repr

__all__ = ["Checkpoint", "identity_of", "names_of", "read_parts"]

_FORMAT = 5


class Checkpoint:
    """The checkpoint file of a run; the first process reads and writes it for all.

    Args:
        path: the file; missing parent folders are created. None disables reading and writing.
        identity: result of `identity_of`; the checkpoint of a run with another one is refused.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity

    def save(self, payload: Callable[[], dict[str, Any]]) -> None:
        """Write the file; a killed process leaves either the old content or the new.

        Args:
            payload: returns tensors, numbers, strings, and lists and dictionaries of them.

        Raises:
            CheckpointError: the file cannot be written.
        """
        if path := self.path:
            content = {"format": _FORMAT, "identity": self.identity, "payload": payload()}
            distributed.on_rank_zero(lambda: _write(path, content))

    def load(self) -> dict[str, Any] | None:
        """Return the payload with tensors on the CPU, or None if there is no file.

        Raises:
            CheckpointError: the file is damaged, or belongs to another run.
        """
        return distributed.on_rank_zero(self._load)

    def _load(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        stored, now = _read(self.path), self.identity
        was, payload = stored["identity"], stored["payload"]
        differing = [key for key in was | now if was.get(key) != now.get(key)]
        if differing and not _extends(now, was, differing):
            values = [f"{key} was {was.get(key)}, is {now.get(key)}" for key in differing[:4]]
            raise CheckpointError(
                f"checkpoint {self.path} belongs to another run ({'; '.join(values)}): expected "
                "the same arguments, more epochs with all else equal, or another path"
            )
        return payload


def _extends(now: dict[str, Any], was: dict[str, Any], differing: list[str]) -> bool:
    """Return whether a run only has more epochs than the stored one; warn if that was not exact."""
    key = "recipe.epochs"
    extends = differing == [key] and int(now[key]) > int(was[key])
    if extends and (now["recipe.schedule"] != repr("constant") or now["schedule"] is not None):
        warnings.warn(
            f"the run is extended from {was[key]} to {now[key]} epochs: its first learning rates "
            "were those of the shorter schedule",
            stacklevel=7,
        )
    return extends


def names_of(functions: Mapping[str, object]) -> dict[str, str | None]:
    """Return descriptions of functions, without addresses in memory."""
    return {k: None if f is None else stable_repr(f) for k, f in functions.items()}


def read_parts(path: Path) -> list[str]:
    """Return the provenance of each part of a run, or an empty list if there is no file.

    Raises:
        CheckpointError: the file is damaged.
    """
    return list(_read(path)["payload"].get("parts", [])) if path.exists() else []


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        with replace_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError, pickle.PickleError) as error:
        raise CheckpointError(f"cannot write checkpoint {path}: {error}") from error


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["format"] != _FORMAT:
            raise ValueError(f"format is {stored['format']}, expected {_FORMAT}")
        return {key: dict(stored[key]) for key in ("identity", "payload")}
    except Exception as error:  # a damaged file can raise anything
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CheckpointError(
            f"cannot read {path} as a checkpoint ({reason}); delete it or use another path"
        ) from error


def identity_of(
    model: nn.Module,
    loaders: Loaders,
    recipe: Recipe,
    teacher: nn.Module | None,
    **arguments: object,
) -> dict[str, Any]:
    """Return everything that determines the result of a run, for comparison with a checkpoint.

    Loaders without a fingerprint are compared by their length alone. Other arguments, such as the
    seed, are compared by their values.
    """
    shapes = [(name, getattr(value, "shape", None)) for name, value in model.state_dict().items()]
    trained = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    layers = stable_repr(model)
    return {
        "model": hashlib.sha256(repr((shapes, trained, layers)).encode()).hexdigest()[:16],
        **arguments,
        "training data": _fingerprint(loaders.train),
        "validation data": _fingerprint(loaders.val),
        "processes": distributed.world_size(),
        "teacher": None if teacher is None else _hash_of(teacher),
        **{f"recipe.{name}": repr(value) for name, value in asdict(recipe).items()},
    }


def _fingerprint(loader: BatchLoader | None) -> str | None:
    if loader is None:
        return None
    own = f" {loader.fingerprint}" if isinstance(loader, Fingerprinted) else ""
    return f"{len(loader)} batches{own}"


def _hash_of(module: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode())
        if isinstance(value, Tensor):
            values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(values.numpy().tobytes())
    return found.hexdigest()[:16]
