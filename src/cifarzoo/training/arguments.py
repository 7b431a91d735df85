"""What `fit` refuses before it begins: arguments that do not go together."""

from __future__ import annotations

import torch
from torch import nn

from cifarzoo.data.loaders import Loaders
from cifarzoo.errors import EmptyLoaderError, OptionError
from cifarzoo.processes import Shardable, Team
from cifarzoo.spec import Recipe
from cifarzoo.training.selection import Proxy

__all__ = ["require_loaders", "require_proxy", "require_shares", "require_teacher"]


def require_loaders(loaders: Loaders, recipe: Recipe) -> None:
    """Refuse loaders without a batch, and early stopping without validation."""
    if recipe.early_stopping is not None and loaders.val is None:
        raise OptionError(
            "the recipe stops early but there is no validation split; give loaders with val, or "
            "replace(recipe, early_stopping=None)"
        )
    for name, loader in (("training", loaders.train), ("validation", loaders.val)):
        if loader is not None and len(loader) < 1:
            raise EmptyLoaderError(
                f"the {name} loader has no batch; a loader that drops its last batch has none if "
                "it holds fewer images than its batch size"
            )


def require_shares(loaders: Loaders, team: Team, device: torch.device, recipe: Recipe) -> None:
    """Refuse what several processes could not share, or not take the same steps of."""
    if team.is_alone:
        return
    if recipe.selection is not None:
        raise OptionError(
            f"{team.size} processes share the run, but the recipe chooses images from whole "
            "batches; use one process, or replace(recipe, selection=None)"
        )
    if device.type not in ("cpu", "cuda"):
        raise OptionError(
            f"device is {device.type!r}; allowed for several processes: 'cpu', 'cuda'"
        )
    if not isinstance(loaders.train, Shardable):
        raise OptionError(
            f"{team.size} processes share the run, but {type(loaders.train).__name__} has no "
            "shard(index, count) that gives one process its part of every batch; use a "
            "TensorLoader, or one process"
        )
    lengths = [len(loaders.train.shard(i, team.size)) for i in range(team.size)]
    if len(set(lengths)) > 1:
        raise OptionError(
            f"the last training batch has fewer images than the {team.size} processes; use "
            "another batch size, or loaders made with last_batch='drop'"
        )


def require_teacher(teacher: object, recipe: Recipe) -> None:
    """Refuse a teacher without a distillation, and the other way round."""
    if recipe.distillation is None and teacher is not None:
        raise OptionError(
            "there is a teacher, but the recipe has no distillation; leave the teacher out, or "
            "replace(recipe, distillation=Distillation(teacher=...))"
        )
    if recipe.distillation is not None and not isinstance(teacher, nn.Module):
        name = recipe.distillation.teacher
        raise OptionError(
            f"the recipe distils {name!r}, and teacher is {teacher!r}; give fit(teacher="
            f"build_model({name!r}, weights=...)), or use train(), which builds it"
        )


def require_proxy(
    proxy: object, recipe: Recipe, model: nn.Module, teacher: nn.Module | None
) -> None:
    """Refuse a proxy without a selection, the other way round, and one with another's network."""
    if recipe.selection is None and proxy is not None:
        raise OptionError(
            "there is a proxy, but the recipe has no selection; leave the proxy out, or "
            "replace(recipe, selection=Selection())"
        )
    if recipe.selection is not None and not isinstance(proxy, Proxy):
        name = recipe.selection.proxy
        raise OptionError(
            f"the recipe selects images by {name!r}, and proxy is {proxy!r}; give fit(proxy="
            f"Proxy(model=build_model({name!r}), recipe=...)), or use train(), which builds it"
        )
    if isinstance(proxy, Proxy) and proxy.model in (model, teacher):
        raise OptionError(
            "the proxy's network is the model or its teacher, and is trained by itself; build "
            "another one for it"
        )
