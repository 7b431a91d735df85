"""From a recipe to torch's optimizer and schedule."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from cifarzoo.errors import OptionError
from cifarzoo.spec import Recipe

__all__ = ["build_optimizer", "build_schedule"]


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer over the parameters that are trained.

    Raises:
        OptionError: no parameter needs a gradient.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise OptionError("the model has no trainable parameter; set requires_grad on some")
    if recipe.optimizer == "sgd":
        return SGD(
            trained, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    kind = Adam if recipe.optimizer == "adam" else AdamW
    return kind(trained, lr=recipe.lr, weight_decay=recipe.weight_decay)


def build_schedule(recipe: Recipe, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """Build the schedule; its `step` is called after every optimizer step."""
    total = max(1, recipe.epochs * steps_per_epoch)
    if recipe.schedule == "one_cycle":
        return OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total + 1, cycle_momentum=False)
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if not warmup:
        return _after_warmup(recipe, optimizer, total)
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    rest = _after_warmup(recipe, optimizer, total - warmup)
    return SequentialLR(optimizer, [rise, rest], milestones=[warmup])


def _after_warmup(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler:
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=max(1, steps))
    return ConstantLR(optimizer, factor=1.0)
