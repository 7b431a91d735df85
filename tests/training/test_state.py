from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cifarzoo import Augmentation, Check, EarlyStopping, LabelError, Recipe, ShapeError
from cifarzoo.training.identity import identity_of
from cifarzoo.training.state import RunState

IMAGES, LABELS = torch.linspace(0, 1, 12).view(4, 3), torch.tensor([0, 1, 1, 0])


PLAIN = Recipe()


def _state(
    recipe: Recipe = PLAIN, *, steps_per_epoch: int = 4, keeps_best: bool = True
) -> RunState:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 6).view(2, 3))
        layer.bias.zero_()
    return RunState(
        model=layer,
        recipe=recipe,
        device=torch.device("cpu"),
        dtype=torch.float32,
        steps_per_epoch=steps_per_epoch,
        keeps_best=keeps_best,
    )


def _weight(state: RunState) -> Tensor:
    return state.model.get_parameter("weight").detach().clone()


def _check(step: int, val_loss: float | None) -> Check:
    return Check(
        step=step,
        epoch=0.0,
        train_loss=1.0,
        train_accuracy=0.0,
        val_loss=val_loss,
        val_accuracy=None,
        lr=0.1,
        seconds=0.0,
    )


def _stops_at(losses: Sequence[float], patience: int) -> int | None:
    """Give the number of the check at which a run with these losses stops."""
    state = _state(Recipe(early_stopping=EarlyStopping(patience=patience)))
    for number, loss in enumerate(losses, 1):
        state.accept(_check(number, loss))
        if state.stopped is not None:
            assert state.stopped == "early"
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "stops_at"),
    [
        ([5, 4, 3, 2, 1, 0.5], None),  # it falls and falls
        ([3, 1, 2, 2, 2], 5),  # 1 is the first of four and the lowest
        ([1, 2, 2], None),  # fewer than four checks
        ([1, 2, 2, 2], 4),
        ([3, 1, 2, 2, 0.9, 2, 2, 2], 8),  # 0.9 came in time
        ([2, 2, 2, 2], 4),  # as low as any is the lowest
        ([1, 5, 4, 3, 2], 4),
        ([4, 5, 3.9, 6, 3.8, 7, 7, 7], 8),
    ],
)
def test_run_stops_when_of_the_last_four_losses_the_first_is_the_lowest(
    losses: list[float], stops_at: int | None
) -> None:
    assert _stops_at(losses, 4) == stops_at


@given(st.lists(st.floats(0.1, 5) | st.sampled_from([1.0, 2.0]), max_size=20), st.integers(2, 6))
def test_rule_is_the_assignments(losses: list[float], patience: int) -> None:
    expected = None
    for number in range(patience, len(losses) + 1):
        relevant = losses[:number][-patience:]
        if relevant[0] == min(relevant):
            expected = number
            break
    assert _stops_at(losses, patience) == expected


def test_run_without_the_rule_never_stops_early() -> None:
    state = _state()
    for step in range(1, 30):
        state.accept(_check(step, float(step)))
    assert state.stopped is None


def test_lowest_loss_decides_what_is_kept_and_the_first_of_equals_wins() -> None:
    state = _state()
    weights = []
    for step, loss in enumerate([2.0, 1.0, 1.0, 3.0], 1):
        state.take_step(IMAGES, LABELS)
        weights.append(_weight(state))
        state.accept(_check(step, loss))
    assert state.best_step == 2
    assert torch.equal(state.best_model["weight"], weights[1])
    state.restore_kept()
    assert torch.equal(_weight(state), weights[1])


@pytest.mark.parametrize(("batch_size", "first"), [(64, 351), (32, 703)])
def test_report_checks_twice_per_epoch_at_its_steps(batch_size: int, first: int) -> None:
    recipe = Recipe(epochs=10, batch_size=batch_size, checks_per_epoch=2)
    state = _state(recipe, steps_per_epoch=45_000 // batch_size)
    steps = []
    for step in range(1, state.total_steps + 1):
        state.step = step
        if state.is_check_due():
            steps.append(step)
    assert steps == [first * i for i in range(1, 21)]


@pytest.mark.parametrize(
    ("checks_per_epoch", "keeps_best", "steps"),
    [
        (1, True, [5, 10]),
        (2, True, [2, 4, 6, 8, 10]),
        (3, True, list(range(1, 11))),
        (100, True, list(range(1, 11))),
        (1, False, [5, 10]),
    ],
)
def test_checks_are_evenly_spaced(
    checks_per_epoch: int, keeps_best: bool, steps: list[int]
) -> None:
    recipe = Recipe(epochs=2, checks_per_epoch=checks_per_epoch)
    state = _state(recipe, steps_per_epoch=5, keeps_best=keeps_best)
    due = []
    for state.step in range(1, 11):
        if state.is_check_due():
            due.append(state.step)
    assert due == steps


def test_last_state_is_checked_where_it_is_the_one_that_is_kept() -> None:
    recipe = Recipe(epochs=1, checks_per_epoch=2)
    for keeps_best, due in ((True, False), (False, True)):
        state = _state(recipe, steps_per_epoch=7, keeps_best=keeps_best)
        state.step = 7
        assert state.is_check_due() is due


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_step_is_torchs(smoothing: float) -> None:
    recipe = Recipe(lr=0.5, momentum=0.9, weight_decay=0.01, label_smoothing=smoothing)
    state, other = _state(recipe), _state().model
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    losses = []
    for _ in range(3):
        loss = criterion(other(IMAGES), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        state.take_step(IMAGES, LABELS)
    assert torch.equal(_weight(state), other.get_parameter("weight"))
    assert state.losses[:3].tolist() == losses
    assert state.train_loss() == pytest.approx(sum(losses) / 3)


def test_means_count_images_and_not_batches() -> None:
    state = _state(Recipe(lr=1e-30))
    logits = state.model(IMAGES).detach()
    losses = nn.functional.cross_entropy(logits, LABELS, reduction="none")
    right = (logits.argmax(1) == LABELS).float()
    state.take_step(IMAGES[:1], LABELS[:1])
    state.take_step(IMAGES[1:], LABELS[1:])
    assert state.train_loss() == pytest.approx(losses.mean().item())
    assert state.train_accuracy() == pytest.approx(right.mean().item())
    assert state.images == 4


def test_figures_begin_anew_after_a_check() -> None:
    state = _state()
    state.take_step(IMAGES, LABELS)
    first = state.check(None)
    state.take_step(IMAGES, LABELS)
    second = state.check(None)
    assert second.train_loss < first.train_loss
    assert (first.step, second.step) == (1, 2)
    assert second.val_loss is None
    assert second.seconds >= first.seconds > 0


def test_check_has_the_rate_of_the_step_before_it() -> None:
    recipe = Recipe(epochs=1, lr=0.4, schedule="cosine")
    state = _state(recipe, steps_per_epoch=4)
    rates = []
    for _ in range(4):
        state.take_step(IMAGES, LABELS)
        rates.append(state.check(None).lr)
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integers_are_labels(dtype: torch.dtype) -> None:
    state, other = _state(), _state()
    state.take_step(IMAGES, LABELS.to(dtype))
    other.take_step(IMAGES, LABELS)
    assert torch.equal(state.losses, other.losses)
    assert torch.equal(state.correct, other.correct)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 1, 2, 0]), LabelError, "labels lie in 0..2; the model has 2 classes"),
        (torch.tensor([0, -100, 1, 0]), LabelError, "labels lie in -100..1"),
        (torch.zeros(4), LabelError, "torch.float32; needed are integers"),
        (torch.zeros(4, dtype=torch.bool), LabelError, "torch.bool"),
        (torch.zeros(4, 1, dtype=torch.int64), ShapeError, r"labels have shape \(4, 1\)"),
        (torch.zeros(3, dtype=torch.int64), ShapeError, r"labels have shape \(3,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_the_weights_change(
    labels: Tensor, error: type[Exception], message: str
) -> None:
    state = _state()
    before = _weight(state)
    with pytest.raises(error, match=message):
        state.take_step(IMAGES, labels)
    assert torch.equal(_weight(state), before)
    assert state.step == 0


def test_first_bad_step_is_counted_from_one() -> None:
    state = _state()
    for batch in (IMAGES, IMAGES, IMAGES * math.nan, IMAGES):
        state.take_step(batch, LABELS)
    assert state.first_bad_step() == 3


def test_state_goes_through_a_payload_and_back() -> None:
    recipe = Recipe(optimizer="adam", lr=0.01, schedule="cosine", epochs=3)
    state, other = _state(recipe), _state(recipe)
    for _ in range(3):
        state.take_step(IMAGES, LABELS)
    state.accept(state.check([(IMAGES, LABELS)]))
    state.take_step(IMAGES, LABELS)
    other.restore(copy.deepcopy(state.payload()))
    for one in (state, other):
        one.take_step(IMAGES, LABELS)
    assert torch.equal(_weight(state), _weight(other))
    assert replace(state.history(), seconds=0) == replace(other.history(), seconds=0)
    assert state.train_loss() == other.train_loss()
    assert other.optimizers.lr == state.optimizers.lr


def test_identity_tells_runs_apart() -> None:
    layer, other = nn.Linear(3, 2), nn.Linear(3, 3)
    mine = identity_of(layer, Recipe(), 0, 10)
    assert mine == identity_of(nn.Linear(3, 2), Recipe(), 0, 10)
    frozen = nn.Linear(3, 2)
    frozen.bias.requires_grad_(False)
    different = [
        identity_of(other, Recipe(), 0, 10),
        identity_of(frozen, Recipe(), 0, 10),
        identity_of(layer, replace(Recipe(), lr=0.1), 0, 10),
        identity_of(layer, replace(Recipe(), augmentation=Augmentation()), 0, 10),
        identity_of(layer, Recipe(), 1, 10),
        identity_of(layer, Recipe(), 0, 11),
        identity_of(layer, Recipe(), 0, 10, "other images"),
        identity_of(layer, Recipe(), 0, 10, dtype=torch.bfloat16),
        identity_of(layer, Recipe(), 0, 10, validation="other images"),
        identity_of(nn.Sequential(layer, nn.ReLU()), Recipe(), 0, 10),
    ]
    assert mine not in different
    relu, tanh = nn.Sequential(layer, nn.ReLU()), nn.Sequential(layer, nn.Tanh())
    assert identity_of(relu, Recipe(), 0, 10) != identity_of(tanh, Recipe(), 0, 10)
