"""Errors for invalid arguments, and for runs that fail without losing anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo import (
    Callback,
    Check,
    CifarZooError,
    Distillation,
    EarlyStopping,
    ImageClassifier,
    Loaders,
    Recipe,
    fit,
)
from cifarzoo.errors import InvalidTypeError, InvalidValueError, NonFiniteLossError

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

Batches = list[tuple[Tensor, Tensor]]


class Weights(Callback):
    """Records the weights at every check."""

    @override
    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.at = model, {0: _weight(model)}

    @override
    def on_check(self, check: Check) -> None:
        self.at[check.step] = _weight(self.model)


def _weight(model: nn.Module) -> Tensor:
    return model.get_parameter("1.weight").detach().clone()


@pytest.fixture
def linear() -> nn.Module:
    """A network that accepts images of any range, NaN included."""
    layer = nn.Linear(3072, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.01, 0.01, 30720).view(10, 3072))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture
def batches(loaders: Loaders) -> Batches:
    return list(loaders.train)


def _with_nan(batches: Batches, at: int) -> Batches:
    bad = batches[at][0] * math.nan, batches[at][1]
    return [*batches[:at], bad, *batches[at + 1 :]]


@pytest.mark.parametrize(("bad", "kept"), [(0, 0), (2, 2), (5, 4)])
def test_nan_in_training_ends_the_run_and_restores_the_best_state(
    linear: nn.Module, batches: Batches, loaders: Loaders, tmp_path: Path, bad: int, kept: int
) -> None:
    weights, recipe = Weights(), Recipe(epochs=2, lr=0.001, checks_per_epoch=3)
    data, path = Loaders(_with_nan(batches, bad), loaders.val), tmp_path / "run.pt"
    with pytest.raises(NonFiniteLossError, match=f"the training loss at step {bad + 1} ") as caught:
        fit_quietly(linear, data, recipe, callbacks=[weights], checkpoint=path)
    history = caught.value.history
    assert history.stopped == "diverged"
    assert [check.step for check in history.checks] == list(range(2, kept + 1, 2))
    assert history.best_step == kept
    assert torch.equal(_weight(linear), weights.at[kept])
    assert not linear.training
    stored = torch.load(path, weights_only=True)["payload"]
    assert stored["step"] == kept, "a bad state must not overwrite the checkpoint"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_that_become_nan_in_the_last_step_are_not_kept(
    linear: nn.Module, batches: Batches, keep: Literal["best", "last"]
) -> None:
    """The loss is measured before the step that spoils the weights."""
    calls = 0

    def spoil(gradient: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gradient * (math.nan if calls == 4 else 1)

    linear.get_parameter("1.weight").register_hook(spoil)  # type: ignore[no-untyped-call]
    recipe = Recipe(epochs=2, lr=0.001, checks_per_epoch=3, keep=keep)
    with pytest.raises(NonFiniteLossError, match="a weight is not finite") as caught:
        fit_quietly(linear, Loaders(batches), recipe)
    assert caught.value.history.best_step == 2
    assert bool(_weight(linear).isfinite().all())


IMAGES, LABELS = torch.rand(8, 3, 32, 32), torch.arange(8)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((IMAGES, torch.full((8,), 10)), InvalidValueError, "labels"),
        ((IMAGES, torch.full((8,), -1)), InvalidValueError, "labels"),
        ((IMAGES, torch.zeros(8)), InvalidTypeError, "labels"),
        ((IMAGES, LABELS[:3]), InvalidValueError, "labels"),
        ((IMAGES * 255, LABELS), InvalidValueError, "255"),
        ((IMAGES[..., :28, :28], LABELS), InvalidValueError, "28"),
        ((IMAGES[:0], LABELS[:0]), InvalidValueError, "a batch has shape"),
        ((IMAGES, LABELS, LABELS), InvalidTypeError, "a batch is a tuple"),
        ({"image": IMAGES}, InvalidTypeError, "a batch is a dict"),
    ],
)
@pytest.mark.parametrize("where", ["train", "val"])
def test_invalid_batches_are_rejected(
    model: ImageClassifier,
    where: str,
    batch: Any,  # noqa: ANN401
    error: type[CifarZooError],
    message: str,
) -> None:
    good: Any = (IMAGES, LABELS)
    data = Loaders([good, batch]) if where == "train" else Loaders([good], [batch])
    with pytest.raises(error, match=message):
        fit_quietly(model, data, Recipe(epochs=1))
    assert not model.training


@pytest.mark.parametrize("n", [0, 4])
def test_loader_shorter_than_its_length_is_rejected(
    model: ImageClassifier, batches: Batches, n: int
) -> None:
    class Short:
        def __len__(self) -> int:
            return 9

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(batches[:n])

    with pytest.raises(InvalidValueError, match="after 4 batches: expected" if n else "empty"):
        fit_quietly(model, Loaders(Short()), Recipe(epochs=1))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "report_baseline"}, InvalidTypeError, "model is 'report_baseline'"),
        ({"recipe": None}, InvalidTypeError, "recipe is None"),
        ({"loaders": [(IMAGES, LABELS)]}, InvalidTypeError, "loaders is"),
        ({"loaders": Loaders([])}, InvalidValueError, "train has no batches"),
        ({"loaders": Loaders([(IMAGES, LABELS)], [])}, InvalidValueError, "val has no batches"),
        ({"callbacks": Callback()}, InvalidTypeError, "callbacks is"),
        ({"callbacks": [print]}, InvalidTypeError, "print"),
        ({"device": "gpu"}, InvalidValueError, "device 'gpu'"),
        ({"precision": "half"}, InvalidValueError, "precision is 'half'"),
        ({"seed": -1}, InvalidValueError, "seed is -1"),
        ({"initial_weights": 3}, InvalidTypeError, "initial_weights is 3"),
    ],
)
def test_invalid_arguments_are_named(
    loaders: Loaders,
    model: ImageClassifier,
    changes: dict[str, Any],
    error: type[CifarZooError],
    message: str,
) -> None:
    arguments: dict[str, Any] = {"model": model, "loaders": loaders, "recipe": Recipe()}
    with pytest.raises(error, match=message):
        fit(**(arguments | changes), progress=False)


def test_contradictory_arguments_are_rejected(
    model: ImageClassifier, make_model: Callable[..., ImageClassifier], batches: Batches
) -> None:
    data, distilled = Loaders(batches), Recipe(distillation=Distillation(teacher="any"))
    with pytest.raises(InvalidValueError, match="early stopping"):
        fit_quietly(model, data, Recipe(early_stopping=EarlyStopping()))
    with pytest.raises(InvalidTypeError, match="teacher is None"):
        fit_quietly(model, data, distilled)
    with pytest.raises(InvalidValueError, match="without distillation"):
        fit_quietly(model, data, replace(distilled, distillation=None), teacher=make_model())
