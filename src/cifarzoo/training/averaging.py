"""Weight averaging, based on torch's `AveragedModel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cifarzoo.recipe import Averaging

__all__ = ["Average"]


class Average:
    """The average of a model's weights and buffers after `start` steps; None disables it."""

    def __init__(self, averaging: Averaging | None, model: nn.Module, start: int) -> None:
        self._model, self._start = model, start
        self._decay = None if averaging is None else averaging.decay
        self._count = 0  # reading torch's own counter, a tensor, could wait for a GPU
        self._averaged: AveragedModel | None = None
        if averaging is not None:
            self._averaged = AveragedModel(model, multi_avg_fn=self._add, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The average, or the model itself before averaging begins."""
        return self._averaged.module if self._averaged is not None and self._count else self._model

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the model's state after `step` steps."""
        if self._averaged is not None and step > self._start:
            self._averaged.update_parameters(self._model)
            self._count += 1

    def _add(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # integer buffers are copied
            torch._foreach_copy_(list(averaged), list(current))
            return
        weight = 1 / (self._count + 1)
        if self._decay is not None:  # decay rises gradually because early states are poor
            weight = 1 - min(self._decay, (1 + self._count) / (10 + self._count))
        torch._foreach_lerp_(list(averaged), list(current), weight)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the average and its number of states; None if averaging is disabled."""
        return None if self._averaged is None else self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Restore what `state_dict` returned."""
        if self._averaged is not None and state is not None:
            self._averaged.load_state_dict(state)
            self._count = int(self._averaged.n_averaged)
