"""Weights averaged over a run, by torch's own `AveragedModel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cifarzoo.spec import Averaging

__all__ = ["Average", "add_states"]


@torch.no_grad()
def add_states(
    averaged: Sequence[Tensor],
    current: Sequence[Tensor],
    count: int,
    *,
    decay: float | None,
) -> None:
    """Add one more state to an average, in place; what are no fractions, counters say, is copied.

    Args:
        averaged: tensors of one type, the average of `count` states.
        current: tensors of the same shapes, the state that is added.
        count: number of states so far, 1 or more.
        decay: of an exponential average, at most; a young one forgets faster, as (1 + count) /
            (10 + count), lest its first states count for too much. None gives the plain mean.
    """
    if not averaged[0].is_floating_point():
        torch._foreach_copy_(list(averaged), list(current))
        return
    weight = 1 / (count + 1)
    if decay is not None:
        weight = 1 - min(decay, (1 + count) / (10 + count))
    torch._foreach_lerp_(list(averaged), list(current), weight)


class Average:
    """The average of a model's states, buffers included, beside the model that is trained.

    Args:
        averaging: how; None keeps no average, and `model` is the model itself.
        model: that is trained.
        start: the step after which the first state counts.
    """

    def __init__(self, averaging: Averaging | None, model: nn.Module, start: int) -> None:
        self._trained = model
        self._start = start
        self._count = 0  # torch counts too, but on the device, where a look makes every step wait
        self._averaged: AveragedModel | None = None
        if averaging is not None:
            decay = averaging.decay
            self._averaged = AveragedModel(
                model,
                multi_avg_fn=lambda averaged, current, _: add_states(
                    averaged, current, self._count, decay=decay
                ),
                use_buffers=True,
            )

    @property
    def model(self) -> nn.Module:
        """What is validated and kept: the average once there is one, else the model itself."""
        if self._averaged is None or not self._count:
            return self._trained
        averaged: nn.Module = self._averaged.module
        return averaged

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the model's state after a step; steps are counted from 1."""
        if self._averaged is not None and step > self._start:
            self._averaged.update_parameters(self._trained)
            self._count += 1

    def state_dict(self) -> dict[str, Any] | None:
        """Give the average, and of how many states it is; None where none is kept."""
        return None if self._averaged is None else dict(self._averaged.state_dict())

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take what `state_dict` gave."""
        if self._averaged is not None and state is not None:
            self._averaged.load_state_dict(state)
            self._count = int(self._averaged.n_averaged)
