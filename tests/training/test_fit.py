from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from cifarzoo import (
    Augmentation,
    Averaging,
    Callback,
    Check,
    Distillation,
    EarlyStopping,
    History,
    ImageClassifier,
    Loaders,
    Preprocess,
    Recipe,
    evaluate,
    fit,
)
from cifarzoo.errors import InvalidValueError
from cifarzoo.training.callbacks import TensorBoardCallback

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]


def _state(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _timeless(history: History) -> History:
    checks = tuple(replace(check, seconds=0) for check in history.checks)
    return replace(history, checks=checks, seconds=0)


class Snapshots(Callback):
    """Records the model's state at every check, and the arguments of every call."""

    def __init__(self) -> None:
        self.states: dict[int, list[Tensor]] = {}
        self.seen: list[object] = []

    @override
    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model
        self.seen.append(recipe)

    @override
    def on_check(self, check: Check) -> None:
        self.states[check.step] = _state(self.model)
        self.seen.append(check)

    @override
    def on_end(self, history: History) -> None:
        self.seen.append(history)


def test_run_learns_and_reports_what_it_did(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    recipe = Recipe(epochs=8, batch_size=8, optimizer="adam", lr=0.003, checks_per_epoch=2)
    model = make_model(filters=(8, 8), hidden=(32,))
    history = fit_quietly(model, make_loaders(), recipe)
    assert [check.step for check in history.checks] == list(range(3, 49, 3))
    assert [check.epoch for check in history.checks] == [step / 6 for step in range(3, 49, 3)]
    assert history.checks[-1].train_loss < history.checks[0].train_loss / 2
    assert (history.steps, history.images, history.stopped) == (48, 384, "epochs")
    assert history.seconds >= history.checks[-1].seconds > 0
    assert not any(module.training for module in model.modules())


def test_state_with_the_lowest_validation_loss_is_kept(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    snapshots, model, loaders = Snapshots(), make_model(), make_loaders(n_val=8)
    recipe = Recipe(epochs=4, batch_size=8, lr=0.5, checks_per_epoch=6)
    history = fit_quietly(model, loaders, recipe, callbacks=[snapshots, Callback()])
    assert snapshots.seen == [recipe, *history.checks, history]
    losses = {check.step: check.val_loss or math.nan for check in history.checks}
    best = min(losses, key=lambda step: losses[step])
    assert best != history.checks[-1].step, "the test needs a run that gets worse"
    assert history.best_step == best
    assert _same(_state(model), snapshots.states[best])
    assert loaders.val is not None
    score = evaluate(model, loaders.val, device="cpu")
    assert history.best is not None
    assert history.best.val_loss == pytest.approx(score.loss)
    assert history.best.val_accuracy == score.accuracy


def test_last_state_is_kept_if_requested_or_without_validation(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    models = [make_model(), make_model()]
    snapshots = Snapshots()
    recipe = Recipe(epochs=1, batch_size=8, lr=0.5, checks_per_epoch=2, keep="last")
    history = fit_quietly(models[0], make_loaders(n_train=40), recipe, callbacks=[snapshots])
    assert [check.step for check in history.checks] == [2, 4, 5]
    assert history.best_step == 5
    assert _same(_state(models[0]), snapshots.states[5])
    without = fit_quietly(
        models[1], make_loaders(n_train=40, n_val=0), replace(recipe, keep="best")
    )
    assert [check.val_loss for check in without.checks] == [None, None, None]
    assert without.best_step == 5
    assert _same(_state(models[1]), snapshots.states[5])


def test_early_stopping_ends_the_run_at_a_check(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    stopping = EarlyStopping(patience=3)
    recipe = Recipe(epochs=50, lr=0.5, checks_per_epoch=3, early_stopping=stopping)
    history = fit_quietly(make_model(), make_loaders(n_val=8), recipe)
    losses = [check.val_loss or math.nan for check in history.checks]
    assert history.stopped == "early"
    assert losses[-3] == min(losses[-3:])
    assert history.steps == history.checks[-1].step < 300


def test_seed_alone_determines_the_result(
    make_model: MakeModel,
    make_loaders: MakeLoaders,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    recipe = Recipe(epochs=2, optimizer="adamw", lr=1e-3, schedule="one_cycle")
    loaders = make_loaders(augmentation=Augmentation(flip="random", translate=2))

    def run(seed: int, *, progress: bool = False) -> tuple[list[Tensor], History]:
        model = make_model(batch_norm=True, dropout=0.2)
        with global_state_untouched():
            history = fit_quietly(model, loaders, recipe, seed=seed, progress=progress)
        return _state(model), _timeless(history)

    first, one = run(5)
    torch.manual_seed(17)  # neither earlier draws nor an earlier use of the loaders matter
    again, two = run(5, progress=True)
    other, three = run(6)
    assert _same(first, again)
    assert one == two
    assert not _same(first, other), "expected the seed to affect dropout"
    assert one != three


def test_lists_and_torch_loaders_are_accepted(
    make_model: MakeModel, loaders: Loaders, recipe: Recipe
) -> None:
    batches = list(loaders.train)
    assert loaders.val is not None
    history = fit_quietly(make_model(), Loaders(batches, list(loaders.val)), recipe)
    assert (history.steps, len(history.checks)) == (12, 6)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    train = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    models = [make_model(), make_model()]
    histories = [fit_quietly(model, Loaders(train, loaders.val), recipe) for model in models]
    assert _same(_state(models[0]), _state(models[1])), "expected the seed to determine the order"
    assert histories[0].steps == 10
    assert histories[0].images == 96, "the last batch has 8 images"


def test_bfloat16_training_keeps_float32_weights_in_channels_last_layout(
    make_model: MakeModel, loaders: Loaders, recipe: Recipe
) -> None:
    model, seen = make_model(), list[tuple[torch.dtype, bool]]()

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last)))

    model.get_submodule("network.block1.conv1").register_forward_hook(record)
    batches = [(images.contiguous(), labels) for images, labels in loaders.train]
    fit(model, Loaders(batches), recipe, device="cpu", precision="bfloat16", progress=False)
    assert set(seen) == {(torch.bfloat16, True)}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weight = model.get_parameter("network.block2.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_losses_are_not_read_at_every_step(
    loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a number waits for a GPU."""
    reads, item = list[Tensor](), Tensor.item

    def recorded(self: Tensor) -> float:
        reads.append(self)
        return item(self)

    monkeypatch.setattr(Tensor, "item", recorded)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    fit_quietly(model, Loaders(loaders.train), Recipe(epochs=1))
    assert len(reads) <= 4


@pytest.mark.parametrize("keep", ["last", "best"])
def test_average_of_the_weights_is_validated_and_kept(
    make_model: MakeModel, loaders: Loaders, keep: Literal["best", "last"]
) -> None:
    recipe = Recipe(epochs=2, lr=0.1, keep=keep, averaging=Averaging(decay=0.9))
    averaged, last = make_model(batch_norm=True), make_model(batch_norm=True)
    history = fit_quietly(averaged, loaders, recipe)
    fit_quietly(last, loaders, replace(recipe, averaging=None, keep="last"))
    assert not _same(_state(averaged), _state(last))
    assert loaders.val is not None
    assert history.best is not None
    loss = evaluate(averaged, loaders.val, device="cpu").loss
    assert history.best.val_loss == pytest.approx(loss, rel=1e-5)


def test_student_learns_from_the_teacher(make_model: MakeModel, make_loaders: MakeLoaders) -> None:
    """The teacher was trained on other labels than those of the loader."""
    loaders = make_loaders(n_train=80)
    assert loaders.val is not None
    shifted = [(images, (labels + 1) % 10) for images, labels in loaders.train]
    teacher, student = make_model(seed=1), make_model()
    strong = Recipe(epochs=60, lr=0.1, momentum=0.9, keep="last")
    fit_quietly(teacher, Loaders(shifted), strong)
    before = _state(teacher)
    recipe = replace(strong, distillation=Distillation(teacher="any", share=1.0, temperature=1))
    fit_quietly(student, Loaders(loaders.train), recipe, teacher=teacher.train())
    assert _same(_state(teacher), before)
    assert not teacher.training
    images, labels = next(iter(loaders.val))
    with torch.no_grad():
        agreement = (student(images).argmax(1) == (labels + 1) % 10).float().mean()
    assert agreement > 0.5


def test_error_in_a_callback_ends_the_run_and_the_others_still_see_the_end(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    class Fault(Callback):
        @override
        def on_check(self, check: Check) -> None:
            raise ZeroDivisionError

    snapshots = Snapshots()
    with pytest.raises(ZeroDivisionError):
        fit_quietly(model, loaders, recipe, callbacks=[snapshots, Fault()])
    end = snapshots.seen[-1]
    assert isinstance(end, History)
    assert (end.stopped, [check.step for check in end.checks]) == ("failed", [2])
    assert not model.training


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard and protobuf
def test_tensorboard_receives_every_curve(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    history = fit_quietly(model, loaders, recipe, callbacks=[TensorBoardCallback(tmp_path)])
    name = "tensorboard.backend.event_processing.event_accumulator"
    events = importlib.import_module(name).EventAccumulator(str(tmp_path))
    events.Reload()
    names = ("train", "validation")
    tags = {"lr", *(f"loss/{each}" for each in names), *(f"accuracy/{each}" for each in names)}
    assert set(events.Tags()["scalars"]) == tags
    points = [(event.step, event.value) for event in events.Scalars("loss/validation")]
    assert points == [(check.step, pytest.approx(check.val_loss)) for check in history.checks]


HALF = Preprocess((0.5,) * 3, (0.25,) * 3)


class Centred(nn.Module):
    """A network that subtracts the mean pixel of the images that initialized it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)
        self.means: list[Tensor] = []

    @property
    def needs_images(self) -> bool:
        return not self.means

    def initialize_from(self, pixels: Tensor) -> None:
        assert not self.training
        time.sleep(0.2)
        self.means.append(pixels.mean((0, 2, 3)))

    @override
    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(pixels.mean((2, 3)) - self.means[0])
        return logits


def test_network_is_initialized_from_the_images_of_the_first_epoch(
    make_loaders: MakeLoaders,
) -> None:
    network, loaders = Centred(), make_loaders()
    expected = torch.cat([images for images, _ in make_loaders().train])
    list(loaders.train)  # an epoch that was read before does not matter
    model = ImageClassifier(HALF, network)
    seconds = fit_quietly(model, loaders, Recipe(epochs=1)).seconds
    assert seconds > 0.2, "expected the time of the initialization to be included"
    fit_quietly(model, loaders, Recipe(epochs=1))
    (mean,) = network.means  # initialized once
    torch.testing.assert_close(mean, HALF(expected).mean((0, 2, 3)))
    hidden = ImageClassifier(HALF, nn.Sequential(Centred()))
    with pytest.raises(InvalidValueError, match=r"network\.0 has to be initialized from images"):
        fit_quietly(hidden, loaders, Recipe(epochs=1))


@pytest.mark.filterwarnings("ignore")  # by torch.compile
def test_compiled_run_agrees_with_an_eager_one(make_loaders: MakeLoaders) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        maps = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*maps, nn.Flatten(), nn.Linear(8, 10))

    recipe = Recipe(epochs=2, batch_size=8, lr=0.01, image_sizes=(24, 32))
    eager, compiled = network(), network()
    runs = {
        compiles: fit_quietly(model, make_loaders(n_val=8), recipe, compile=compiles)
        for compiles, model in ((False, eager), (True, compiled))
    }
    assert compiled._compiled_call_impl is None, "the model stays compiled"
    for one, other in zip(_state(eager), _state(compiled), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    losses = [[check.val_loss for check in run.checks] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
