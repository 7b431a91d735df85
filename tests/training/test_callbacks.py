from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from cifarzoo import (
    Callback,
    Check,
    History,
    ImageClassifier,
    Loaders,
    MissingExtraError,
    Recipe,
    TensorBoardCallback,
    fit,
)

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)


class Recorder(Callback):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self.seen.append(("start", recipe))

    def on_check(self, check: Check) -> None:
        self.seen.append(check)

    def on_end(self, history: History) -> None:
        self.seen.append(("end", history))


def test_callbacks_see_start_checks_and_end(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    recorders = Recorder(), Recorder()
    history = fit_quietly(model, loaders, recipe, callbacks=recorders)
    for recorder in recorders:
        assert recorder.seen == [("start", recipe), *history.checks, ("end", history)]


def test_plain_callback_does_nothing(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    assert fit_quietly(model, loaders, recipe, callbacks=[Callback()]).stopped == "epochs"


class Fault(Callback):
    def on_check(self, check: Check) -> None:
        raise ZeroDivisionError


def test_fault_in_a_callback_ends_the_run_and_the_others_hear_of_it(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError):
        fit_quietly(model, loaders, recipe, callbacks=[recorder, Fault()])
    last = recorder.seen[-1]
    assert isinstance(last, tuple)
    assert last[1].stopped == "failed"
    assert [check.step for check in last[1].checks] == [2]
    assert not model.training


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    name = "tensorboard.backend.event_processing.event_accumulator"
    events = importlib.import_module(name).EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own, and protobuf's
def test_tensorboard_gets_every_curve(
    make_loaders: Callable[..., Loaders], model: ImageClassifier, recipe: Recipe, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    history = fit_quietly(
        model, make_loaders(), recipe, callbacks=[TensorBoardCallback(tmp_path / "logs")]
    )
    curves = _curves(tmp_path / "logs")
    expected = {
        "loss/train": [check.train_loss for check in history.checks],
        "loss/validation": [check.val_loss for check in history.checks],
        "accuracy/train": [check.train_accuracy for check in history.checks],
        "accuracy/validation": [check.val_accuracy for check in history.checks],
        "lr": [check.lr for check in history.checks],
    }
    assert set(curves) == set(expected)
    for tag, values in expected.items():
        assert [step for step, _ in curves[tag]] == [2, 4, 6, 8, 10, 12]
        assert [value for _, value in curves[tag]] == pytest.approx(values)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_leaves_out_what_was_not_measured(
    make_loaders: Callable[..., Loaders], model: ImageClassifier, recipe: Recipe, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    fit_quietly(model, make_loaders(n_val=0), recipe, callbacks=[TensorBoardCallback(tmp_path)])
    assert set(_curves(tmp_path)) == {"loss/train", "accuracy/train", "lr"}


def test_missing_tensorboard_gets_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install tensorboard"):
        TensorBoardCallback(tmp_path)
