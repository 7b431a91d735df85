"""Torch optimizers and the learning rate of every step, built from a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
from pydantic import InstanceOf
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from typing_extensions import override

from cifarzoo.errors import InvalidValueError, suggest
from cifarzoo.recipe import OptimizerName, ParamGroup, Recipe, ScheduleName
from cifarzoo.validation import NonNegativeFloat, validate

__all__ = ["OptimizerFactory", "Optimizers", "Schedule"]

OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter]], Optimizer]
Schedule: TypeAlias = Callable[[int, int], float]  # from step and number of steps to a factor

_Named: TypeAlias = tuple[str, nn.Parameter]
_REST = ParamGroup(params="*")


def _one_cycle(step: int, steps: int) -> float:
    start, end, rise = 1 / 25, 1 / 25 / 1e4, 0.3  # the defaults of torch's OneCycleLR
    peak = rise * steps - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak)
    return _cosine(1.0, end, (step - peak) / (steps - 1 - peak))


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


_SCHEDULES: dict[ScheduleName, Schedule] = {
    "constant": lambda step, steps: 1.0,
    "linear": lambda step, steps: 1 - step / steps,
    "cosine": lambda step, steps: _cosine(1.0, 0.0, step / steps),
    "one_cycle": _one_cycle,
}


def _lr_factor(schedule: Schedule, step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate at a step, counted from 0.

    The schedule starts after `warmup` steps of linear warm-up; from `steps` on, the factor is 0.
    """
    if step >= steps:
        return 0.0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    factor = schedule(step - warmup, steps - warmup)
    return validate("schedule(step, steps)", factor, NonNegativeFloat)


class Optimizers:
    """The optimizers and learning rates of a recipe.

    The learning rate depends on the step number alone, so there is no scheduler state to resume.
    Parameters are frozen after their `ParamGroup.epochs`, until `release`; layers before the first
    trained one then skip their backward pass. Parameters that need no gradient are ignored.

    Args:
        recipe: the training settings.
        parameters: names and parameters of the model.
        steps_per_epoch: number of steps in an epoch.
        optimizer: makes the optimizer in place of the recipe's.
        schedule: replaces the recipe's schedule.

    Raises:
        InvalidTypeError: `optimizer` does not return an optimizer.
        InvalidValueError: the recipe or the optimizer does not fit the parameters.
    """

    def __init__(
        self,
        recipe: Recipe,
        parameters: Iterable[_Named],
        steps_per_epoch: int,
        *,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        trainable = [(name, tensor) for name, tensor in parameters if tensor.requires_grad]
        if not trainable:
            raise InvalidValueError("model has no trainable parameter: expected at least one")
        self._trainable = [tensor for _, tensor in trainable]
        self._schedule = schedule or _SCHEDULES[recipe.schedule]
        self._clip = recipe.clip_grad_norm
        self._warmup = round(recipe.warmup_epochs * steps_per_epoch)
        self._params: list[tuple[int, list[nn.Parameter]]] = []  # with their number of steps
        self._fixed: list[tuple[nn.Parameter, Tensor]] = []  # with their norms
        self.optimizers: list[Optimizer] = []
        if optimizer is None:
            self._from_recipe(recipe, trainable, steps_per_epoch)
        else:
            self._from_factory(recipe, optimizer, recipe.epochs * steps_per_epoch)
        self.set_lr(0)

    def _from_factory(self, recipe: Recipe, factory: OptimizerFactory, steps: int) -> None:
        if recipe.groups:
            raise InvalidValueError("optimizer is set: expected a recipe without groups")
        made = validate("optimizer(parameters)", factory(self._trainable), InstanceOf[Optimizer])
        given = {id(each) for group in made.param_groups for each in group["params"]}
        known = {id(each) for each in self._trainable}
        if given != known:
            raise InvalidValueError(
                f"the optimizer has {len(given & known)} of the model's {len(known)} trainable "
                f"parameters and {len(given - known)} others: expected all of them and no others; "
                "requires_grad_(False) excludes a parameter"
            )
        for group in made.param_groups:
            group.update(initial_lr=group["lr"], steps=steps)
        self.optimizers = [made]

    def _from_recipe(self, recipe: Recipe, trainable: list[_Named], steps_per_epoch: int) -> None:
        groups: dict[OptimizerName, list[dict[str, Any]]] = {}
        assigned = _assign(recipe, trainable)
        for group, named in assigned.items():
            kind = group.optimizer or recipe.optimizer
            flat = [name for name, tensor in named if tensor.ndim < 2]
            if kind == "muon" and flat:
                raise InvalidValueError(
                    f"optimizer is 'muon' for {', '.join(flat[:3])}: expected matrices; put all "
                    f"{len(flat)} others in groups with another optimizer, such as "
                    "ParamGroup(params='*.bias', optimizer='sgd')"
                )
            epochs = min(group.epochs or recipe.epochs, recipe.epochs)
            steps = max(1, round(epochs * steps_per_epoch))
            options = _options(recipe, group, named) | {"steps": steps}
            groups.setdefault(kind, []).append(options)
            self._params.append((steps, options["params"]))
        if max(steps for steps, _ in self._params) < recipe.epochs * steps_per_epoch:
            raise InvalidValueError(
                f"every group ends before epoch {recipe.epochs}: expected a group with epochs=None"
            )
        self.optimizers = [_build(kind, options) for kind, options in groups.items()]
        fixed = [pair for group, named in assigned.items() if group.fix_norm for pair in named]
        self._fixed += [(tensor, tensor.detach().norm()) for _, tensor in fixed]
        for (name, _), (_, norm) in zip(fixed, self._fixed, strict=True):
            if not norm:
                raise InvalidValueError(f"fix_norm is True for {name}: expected non-zero weights")

    @property
    def lr(self) -> float:
        """The highest learning rate over all groups."""
        return max(float(group["lr"]) for each in self.optimizers for group in each.param_groups)

    def set_lr(self, step: int) -> None:
        """Set the learning rates of a step, counted from 0, before its forward pass."""
        for group in (group for each in self.optimizers for group in each.param_groups):
            warmup = min(self._warmup, group["steps"] - 1)
            factor = _lr_factor(self._schedule, step, group["steps"], warmup)
            group["lr"] = group["initial_lr"] * factor
        for steps, params in self._params:
            if step >= steps:
                for tensor in params:
                    tensor.requires_grad_(False)

    def release(self) -> None:
        """Unfreeze the parameters whose epochs are over."""
        for tensor in self._trainable:
            tensor.requires_grad_(True)

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for tensor in self._trainable:
            tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients."""
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._trainable, self._clip)
        for tensor, norm in self._fixed:
            if tensor.requires_grad:  # its epochs may be over
                tensor.mul_(norm / tensor.norm())
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' states and the fixed norms."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "norms": [norm for _, norm in self._fixed],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            steps = [group["steps"] for group in optimizer.param_groups]
            optimizer.load_state_dict(stored)
            for group, n in zip(optimizer.param_groups, steps, strict=True):
                group["steps"] = n  # more than stored if the run is extended
        for (_, norm), stored in zip(self._fixed, state["norms"], strict=True):
            norm.copy_(stored)


def _assign(recipe: Recipe, trainable: list[_Named]) -> dict[ParamGroup, list[_Named]]:
    """Assign each parameter to the first group whose pattern matches its name."""
    assigned: dict[ParamGroup, list[_Named]] = {}
    used = set()
    for name, tensor in trainable:
        matching = (group for group in recipe.groups if fnmatchcase(name, group.params))
        group = next(matching, _REST)
        used.add(group)
        if not recipe.decay_norm_and_bias and tensor.ndim < 2 and group.weight_decay is None:
            group = replace(group, weight_decay=0.0)
        assigned.setdefault(group, []).append((name, tensor))
    for group in recipe.groups:
        if group not in used:
            names = [name for name, _ in trainable]
            raise InvalidValueError(
                f"pattern {group.params!r} matches no trainable parameter outside earlier groups: "
                f"expected one of {', '.join(names[:4])}, …{suggest(group.params, names)}"
            )
    return assigned


def _options(recipe: Recipe, group: ParamGroup, named: list[_Named]) -> dict[str, Any]:
    """Return a torch parameter group; optimizers ignore options that they do not have."""
    options: dict[str, Any] = {"params": [tensor for _, tensor in named]}
    for name in ("lr", "momentum", "weight_decay"):
        own = getattr(group, name)
        options[name] = getattr(recipe, name) if own is None else own
    options["nesterov"] = bool(recipe.nesterov and options["momentum"])
    options["initial_lr"] = options["lr"]
    return options


def _build(kind: OptimizerName, groups: list[dict[str, Any]]) -> Optimizer:
    if kind == "muon":
        return _muon(groups)
    if kind == "sgd":  # fused SGD needs every gradient in the first step, and gains little
        return SGD(groups)
    fused = all(_can_fuse(tensor) for group in groups for tensor in group["params"])
    return Adam(groups, fused=fused) if kind == "adam" else AdamW(groups, fused=fused)


def _can_fuse(tensor: Tensor) -> bool:
    """Return whether torch's fused optimizers support a parameter, whose memory must be dense."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    dense = channels_last or tensor.is_contiguous()
    return dense and tensor.is_floating_point() and tensor.device.type in ("cpu", "cuda")


def _muon(groups: list[dict[str, Any]]) -> Optimizer:
    """Return torch's Muon on tensors viewed as matrices, one row per filter.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise InvalidValueError(f"torch is {torch.__version__}: expected 2.9 or later for 'muon'")

    class TensorMuon(torch.optim.Muon):
        def __init__(self) -> None:
            tensors = [tensor for group in groups for tensor in group["params"]]
            self._matrices = {tensor: nn.Parameter(_matrix_view(tensor)) for tensor in tensors}
            matrices = [[self._matrices[tensor] for tensor in each["params"]] for each in groups]
            pairs = zip(groups, matrices, strict=True)
            super().__init__([{**group, "params": params} for group, params in pairs])

        @override
        def step(self, closure: Any = None) -> Any:
            for tensor, matrix in self._matrices.items():
                matrix.data = _matrix_view(tensor)
                grad = tensor.grad
                matrix.grad = None if grad is None else grad.permute(_order(tensor)).flatten(1)
            return super().step(closure)  # type: ignore[no-untyped-call]

    return TensorMuon()


def _order(tensor: Tensor) -> tuple[int, ...]:
    """Return the dimensions in memory order, for contiguous and channels_last tensors."""
    channels_last = tensor.ndim == 4 and not tensor.is_contiguous()
    return (0, 2, 3, 1) if channels_last else tuple(range(tensor.ndim))


def _matrix_view(tensor: Tensor) -> Tensor:
    """View (out,...) as a matrix (out,rest); torch raises if the memory does not allow it."""
    return tensor.detach().permute(_order(tensor)).view(len(tensor), -1)
