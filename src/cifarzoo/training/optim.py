"""From a recipe to torch's optimizers, and to the learning rate of every step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cifarzoo.errors import OptionError, some_of
from cifarzoo.spec import OptimizerName, ParamGroup, Recipe, ScheduleName
from cifarzoo.training.matrices import muon

__all__ = ["Optimizers", "rate"]

Named: TypeAlias = tuple[str, nn.Parameter]
_REST = ParamGroup(params="*")

# torch's OneCycleLR: where it begins and ends, as shares of the highest rate, and its rise.
_ONE_CYCLE_BEGIN, _ONE_CYCLE_END, _ONE_CYCLE_RISE = 1 / 25, 1 / 25 / 1e4, 0.3


def _one_cycle(step: int, steps: int) -> float:
    peak = _ONE_CYCLE_RISE * (steps + 1) - 1
    if step <= peak:
        return _along_cosine(_ONE_CYCLE_BEGIN, 1.0, step / peak)
    return _along_cosine(1.0, _ONE_CYCLE_END, (step - peak) / (steps - peak))


def _along_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


_SHAPES: dict[ScheduleName, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "linear": lambda step, steps: 1 - step / steps,
    "cosine": lambda step, steps: _along_cosine(1.0, 0.0, step / steps),
    "one_cycle": _one_cycle,
}


def rate(recipe: Recipe, step: int, steps: int, warmup: int = 0) -> float:
    """Give the share of its learning rate that a parameter gets at one step.

    Args:
        recipe: its schedule counts.
        step: from 0; beyond `steps` the share is 0.
        steps: of the whole run, or of the part in which the parameter is trained.
        warmup: steps of a linear rise before the schedule begins.
    """
    if step >= steps:
        return 0.0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return _SHAPES[recipe.schedule](step - warmup, steps - warmup)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rated:
    """A group of one of torch's optimizers, and what its learning rate follows from."""

    optimizer: Optimizer
    index: int
    lr: float
    steps: int
    trained: list[nn.Parameter]

    @property
    def group(self) -> dict[str, Any]:
        """The group as it is now; loading a state makes new ones."""
        return self.optimizer.param_groups[self.index]


def _assigned(recipe: Recipe, trained: Iterable[Named]) -> dict[ParamGroup, list[Named]]:
    """Give every parameter to the first group whose pattern fits, else to the rest."""
    found: dict[ParamGroup, list[Named]] = {group: [] for group in (*recipe.groups, _REST)}
    for name, tensor in trained:
        fits = (group for group in recipe.groups if fnmatchcase(name, group.params))
        found[next(fits, _REST)].append((name, tensor))
    names = [name for name, _ in trained]
    for i, group in enumerate(recipe.groups):
        if not found[group]:
            raise OptionError(_why_none(group.params, recipe.groups[:i], names))
    if recipe.decay == "weights":
        found = _by_decay(found)
    return {group: named for group, named in found.items() if named}


def _why_none(pattern: str, before: Iterable[ParamGroup], names: Sequence[str]) -> str:
    """Tell why a pattern gets no parameter, and what to write in its place."""
    fits = [name for name in names if fnmatchcase(name, pattern)]
    if fits:
        takers = dict.fromkeys(
            next(group.params for group in before if fnmatchcase(name, group.params))
            for name in fits
        )
        left = all(any(fnmatchcase(name, t) and name not in fits for name in names) for t in takers)
        way_out = "put it before them" if left else "leave it out, or let those before it fit less"
        return (
            f"the pattern {pattern!r} fits {some_of(fits)}, which {', '.join(map(repr, takers))} "
            f"before it takes; the first pattern that fits a name holds: {way_out}"
        )
    words = {word for name in names for word in re.findall(r"[A-Za-z]+", name)}
    typos = [word for word in re.findall(r"[A-Za-z]+", pattern) if word not in words]
    close = {typo: found[0] for typo in typos if (found := get_close_matches(typo, words, n=1))}
    meant = re.sub(r"[A-Za-z]+", lambda word: close.get(word[0], word[0]), pattern)
    hint = f"; did you mean {meant!r}?" if any(fnmatchcase(name, meant) for name in names) else ";"
    return (
        f"the pattern {pattern!r} fits no trainable parameter{hint} "
        f"model.named_parameters() gives the names: {some_of(names)}"
    )


def _by_decay(assigned: Mapping[ParamGroup, list[Named]]) -> dict[ParamGroup, list[Named]]:
    """Let norms and biases have no decay, but for groups with one of their own."""
    found: dict[ParamGroup, list[Named]] = {}
    for group, named in assigned.items():
        bare = group if group.weight_decay is not None else replace(group, weight_decay=0.0)
        for each in named:
            found.setdefault(group if each[1].ndim >= 2 else bare, []).append(each)
    return found


def _build(kind: OptimizerName, groups: Iterable[dict[str, Any]]) -> Optimizer:
    """Build one of torch's optimizers; options that it does not know are left out."""
    known = {
        "sgd": ("momentum", "nesterov", "weight_decay"),
        "muon": ("momentum", "nesterov", "weight_decay"),
        "adam": ("weight_decay",),
        "adamw": ("weight_decay",),
    }[kind]
    kept = [
        {name: value for name, value in group.items() if name in ("params", "lr", *known)}
        for group in groups
    ]
    if kind == "muon":
        return muon(kept)
    if kind == "sgd":  # fused it would need every gradient in the first step, and gain little
        return SGD(kept)
    builder: Callable[..., Optimizer] = Adam if kind == "adam" else AdamW
    return builder(kept, fused=_can_fuse(kept))


def _can_fuse(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether torch can change all parameters in one pass over memory."""
    return all(_fits_fused(tensor) for group in groups for tensor in group["params"])


def _fits_fused(tensor: Tensor) -> bool:
    """Tell whether a parameter is of a kind, and in a place, that fused optimizers take.

    They take its memory to be without gaps and do not look.
    """
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    dense = last or tensor.is_contiguous()
    return dense and tensor.is_floating_point() and tensor.device.type in ("cpu", "cuda")


def _options(recipe: Recipe, group: ParamGroup, named: Iterable[Named]) -> dict[str, Any]:
    own = {name: getattr(group, name) for name in ("lr", "momentum", "weight_decay")}
    theirs = {name: getattr(recipe, name) for name in (*own, "nesterov")}
    chosen = theirs | {name: value for name, value in own.items() if value is not None}
    chosen["nesterov"] = bool(chosen["nesterov"] and chosen["momentum"])
    return {"params": [tensor for _, tensor in named], **chosen}


def _require_matrices(named: Iterable[Named]) -> None:
    """Refuse what Muon cannot train."""
    flat = [f"{name} {tuple(tensor.shape)}" for name, tensor in named if tensor.ndim < 2]
    if flat:
        raise OptionError(
            f"optimizer is 'muon' for {some_of(flat)}; allowed: two or more dimensions. Give the "
            "others a group with another optimizer, for example "
            "ParamGroup(params='*.bias', optimizer='sgd')"
        )


def _norm_of(name: str, tensor: Tensor) -> Tensor:
    norm: Tensor = tensor.detach().norm()
    if not norm:
        raise OptionError(
            f"norm is 'kept' for {name}, which is all zeros and could never change; give it a "
            "group of its own with norm='free'"
        )
    return norm


def _require_grad(tensors: Iterable[nn.Parameter], *, needed: bool) -> None:
    for tensor in tensors:
        tensor.requires_grad_(needed)


def _steps_of(group: ParamGroup, recipe: Recipe, steps_per_epoch: int) -> int:
    """Give the number of steps for which a group is trained."""
    epochs = recipe.epochs if group.epochs is None else min(group.epochs, recipe.epochs)
    return max(1, round(epochs * steps_per_epoch))


class Optimizers:
    """One or several of torch's optimizers as one, with the rates that the recipe says.

    The rate of a step depends on nothing but its number, so a run that is resumed needs no state
    of a schedule. Parameters whose epochs are over need no gradient until `release`: layers before
    the first one that is trained still cost no backward pass.

    Args:
        recipe: what to do.
        parameters: of the model, with their names; those without a gradient are left out.
        steps_per_epoch: optimizer steps in an epoch.

    Raises:
        OptionError: no parameter needs a gradient, a group's pattern fits none, the epochs of all
            groups are over before the recipe's, or a parameter is not what its
            group's optimizer or norm needs.
    """

    def __init__(self, recipe: Recipe, parameters: Iterable[Named], steps_per_epoch: int) -> None:
        trained = [(name, tensor) for name, tensor in parameters if tensor.requires_grad]
        if not trained:
            raise OptionError("the model has no trainable parameter; set requires_grad on some")
        self._trained = [tensor for _, tensor in trained]
        self._recipe = recipe
        self._warmup = round(recipe.warmup_epochs * steps_per_epoch)
        self._rated: list[_Rated] = []
        self.optimizers: list[Optimizer] = []
        assigned = _assigned(recipe, trained)
        by_kind: dict[OptimizerName, list[ParamGroup]] = {}
        for group in assigned:
            by_kind.setdefault(group.optimizer or recipe.optimizer, []).append(group)
        for kind, groups in by_kind.items():
            if kind == "muon":
                _require_matrices(each for group in groups for each in assigned[group])
            options = [_options(recipe, group, assigned[group]) for group in groups]
            optimizer = _build(kind, options)
            self.optimizers.append(optimizer)
            self._rated += [
                _Rated(
                    optimizer=optimizer,
                    index=index,
                    lr=options[index]["lr"],
                    steps=_steps_of(group, recipe, steps_per_epoch),
                    trained=[tensor for _, tensor in assigned[group]],
                )
                for index, group in enumerate(groups)
            ]
        if max(each.steps for each in self._rated) < recipe.epochs * steps_per_epoch:
            raise OptionError(
                f"epochs is {recipe.epochs}, but the groups that train every parameter end sooner; "
                "lower it, or let one group train to the end (epochs=None)"
            )
        self._kept = [
            (tensor, _norm_of(name, tensor))
            for group, named in assigned.items()
            if group.norm == "kept"
            for name, tensor in named
        ]
        self.set_rates(0)

    @property
    def lr(self) -> float:
        """The highest learning rate of all groups."""
        return max(float(each.group["lr"]) for each in self._rated)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of one step, counted from 0, before its forward pass."""
        for each in self._rated:
            warmup = min(self._warmup, each.steps - 1)
            each.group["lr"] = each.lr * rate(self._recipe, step, each.steps, warmup)
            if step >= each.steps:
                _require_grad(each.trained, needed=False)

    def release(self) -> None:
        """Let all parameters need gradients again, as they did at first."""
        _require_grad(self._trained, needed=True)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for tensor in self._trained:
            tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        for tensor, norm in self._kept:
            if tensor.requires_grad:  # its epochs are not over
                tensor.mul_(norm / tensor.norm())
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Give the optimizers' states, in their order."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "norms": [norm for _, norm in self._kept],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the states that `state_dict` gave."""
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            # Fused as the parameters are here, not as they were where the state was saved: that
            # also decides on which device torch puts the number of steps.
            groups = [
                saved | ({"fused": here["fused"]} if "fused" in here else {})
                for saved, here in zip(stored["param_groups"], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict(stored | {"param_groups": groups})
        for (_, norm), stored in zip(self._kept, state["norms"], strict=True):
            norm.copy_(stored)
