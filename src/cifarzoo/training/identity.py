"""What a run is, so that the checkpoint of another one is noticed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from importlib.metadata import version

import torch
from torch import Tensor, nn

from cifarzoo.data.feature_store import state_fingerprint
from cifarzoo.spec import Recipe
from cifarzoo.training.checkpoint import Payload
from cifarzoo.training.selection import Proxy

__all__ = ["identity_of"]

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def identity_of(
    model: nn.Module,
    recipe: Recipe,
    seed: int,
    steps_per_epoch: int,
    data: str | None = None,
    dtype: torch.dtype = torch.float32,
    teacher: nn.Module | None = None,
    processes: int = 1,
    validation: str | None = None,
    proxy: Proxy | None = None,
) -> Payload:
    """Describe a run so that a checkpoint of another one is refused.

    Args:
        model: what is trained.
        recipe: how.
        seed: of the run.
        steps_per_epoch: batches of the training loader.
        data: the training loader's fingerprint; None for a loader that has none.
        dtype: that it is computed in.
        teacher: that it learns from; None for none.
        processes: that share the run.
        validation: the validation loader's fingerprint; None for one that has none, or for none.
        proxy: that chooses the images; None for none.
    """
    settings = {
        f"recipe.{key}": repr(value)  # a part that is not there is left out, as before it existed
        for key, value in asdict(recipe).items()
        if value is not None
    }
    by = None if proxy is None else hashlib.sha256(repr(proxy.recipe).encode()).hexdigest()[:16]
    return {
        "cifarzoo": version("cifarzoo"),
        "model": _described(model),
        "seed": seed,
        "steps_per_epoch": steps_per_epoch,
        "data": data,
        "validation": validation,
        "precision": str(dtype).removeprefix("torch."),
        "teacher": None if teacher is None else state_fingerprint(teacher),
        "proxy": None if proxy is None else f"{_described(proxy.model)}, by recipe {by}",
        "processes": processes,
        **settings,
    }


def _described(model: nn.Module) -> str:
    """Write a network's kind and size, and a hash of its layers, their settings and shapes."""
    shapes = [
        (name, tuple(value.shape) if isinstance(value, Tensor) else None)  # or an extra state
        for name, value in model.state_dict().items()
    ]
    trained = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    made_of = ADDRESS.sub("", repr(model))
    found = hashlib.sha256(repr((shapes, trained, made_of)).encode()).hexdigest()[:16]
    n = sum(tensor.numel() for tensor in model.parameters())
    return f"{type(model).__name__} of {n:,} parameters, {found}"
