"""Weights averaged over a run, by torch's own `AveragedModel`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifarzoo.spec import Averaging

__all__ = ["Average"]


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
        self._averaged: AveragedModel | None = None
        if averaging is not None:
            rule = None
            if averaging.decay is not None:
                rule = get_ema_multi_avg_fn(averaging.decay)  # type: ignore[no-untyped-call]
            self._averaged = AveragedModel(model, multi_avg_fn=rule, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """What is validated and kept: the average once there is one, else the model itself."""
        if self._averaged is None or not self._averaged.n_averaged:
            return self._trained
        averaged: nn.Module = self._averaged.module
        return averaged

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the model's state after a step; steps are counted from 1."""
        if self._averaged is not None and step > self._start:
            self._averaged.update_parameters(self._trained)

    def state_dict(self) -> dict[str, Any] | None:
        """Give the average, and of how many states it is; None where none is kept."""
        return None if self._averaged is None else dict(self._averaged.state_dict())

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take what `state_dict` gave."""
        if self._averaged is not None and state is not None:
            self._averaged.load_state_dict(state)
