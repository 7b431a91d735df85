from __future__ import annotations

import pytest
import torch
from torch import nn

from cifarzoo import Recipe
from cifarzoo.training.state import RunState


def _state(model: nn.Module, recipe: Recipe, steps: int = 4, *, best: bool = False) -> RunState:
    cpu, dtype = torch.device("cpu"), torch.float32
    return RunState(model, recipe, device=cpu, dtype=dtype, steps_per_epoch=steps, keeps_best=best)


@pytest.mark.parametrize(("batch_size", "first"), [(64, 351), (32, 703)])
def test_report_recipe_checks_twice_per_epoch(batch_size: int, first: int) -> None:
    recipe = Recipe(epochs=10, checks_per_epoch=2)
    state, due = _state(nn.Linear(3, 2), recipe, 45_000 // batch_size, best=True), []
    for step in range(1, state.total_steps + 1):
        state.step = step
        if state.is_check_due():
            due.append(step)
    assert due == [first * i for i in range(1, 21)]


def test_means_weight_batches_by_their_size() -> None:
    images, labels = torch.linspace(0, 1, 12).view(4, 3), torch.tensor([0, 1, 1, 0])
    state = _state(nn.Linear(3, 2), Recipe(lr=1e-30))
    logits = state.model(images).detach()
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    correct = (logits.argmax(1) == labels).double()
    state.take_step(images[:1], labels[:1], 1)
    state.take_step(images[1:], labels[1:], 3)
    expected = losses.mean().item(), correct.mean().item()
    assert state.figures() == pytest.approx(expected)
    check = state.check(None)
    assert (check.train_loss, check.train_accuracy) == pytest.approx(expected)
    state.take_step(images[:1], labels[:1], 1)
    assert state.figures() == pytest.approx((losses[0].item(), correct[0].item()))
