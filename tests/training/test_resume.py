"""A run that was interrupted ends as if it had not been."""

from __future__ import annotations

import math
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

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
    EarlyStopping,
    History,
    ImageClassifier,
    Loaders,
    Mixing,
    ParamGroup,
    Recipe,
    TensorLoader,
    fit,
)
from cifarzoo.errors import CheckpointError
from cifarzoo.training.checkpoint import read_parts

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]
Result = tuple[list[Tensor], History]

AUGMENTED = Augmentation(
    flip="alternating",
    translate=2,
    cutout=6,
    rotation=10,
    sharpness=0.5,
    erase=0.2,
    trivial_augment=True,
)
RECIPES = {
    "sgd": Recipe(epochs=3, lr=0.1, momentum=0.9, warmup_epochs=1.5, checks_per_epoch=3),
    "adam": Recipe(epochs=3, optimizer="adam", lr=0.01, checks_per_epoch=2, schedule="cosine"),
    "adamw": Recipe(epochs=3, optimizer="adamw", lr=0.01, schedule="one_cycle", keep="last"),
    "muon": Recipe(
        epochs=3,
        optimizer="muon",
        lr=0.1,
        momentum=0.6,
        nesterov=True,
        schedule="linear",
        checks_per_epoch=2,
        groups=(
            ParamGroup(params="*.bias", optimizer="sgd", lr=0.5, epochs=1.5),
            ParamGroup(params="*norm*", optimizer="sgd"),
            ParamGroup(params="*.conv1.weight", fix_norm=True),
        ),
    ),
    "averaged": Recipe(epochs=3, averaging=Averaging(decay=0.8, start_epochs=0.5)),
    "mean": Recipe(epochs=3, keep="last", averaging=Averaging(decay=None, start_epochs=1.5)),
    "mixed": Recipe(epochs=3, mixing=Mixing(kind="either", share=0.7, ramp_epochs=1.5)),
    "early": Recipe(epochs=9, lr=0.5, checks_per_epoch=3, early_stopping=EarlyStopping(patience=3)),
}


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """A background job may have been started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class StoppingLoader:
    """A training loader that calls functions before it yields certain batches of the run."""

    def __init__(self, loaders: Loaders, stops: dict[int, Callable[[], None]]) -> None:
        assert isinstance(loaders.train, TensorLoader)
        self.loader, self.stops = loaders.train, stops
        self.set_epoch, self.fingerprint = self.loader.set_epoch, self.loader.fingerprint

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.iter_from(0)

    def iter_from(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        first = self.loader.epoch * len(self) + batch
        for number, pair in enumerate(self.loader.iter_from(batch), first):
            self.stops.pop(number, lambda: None)()
            yield pair


def _stopping(loaders: Loaders, stops: dict[int, Callable[[], None]]) -> Loaders:
    return Loaders(StoppingLoader(loaders, stops), loaders.val)


def _ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def _sigterm() -> None:
    signal.raise_signal(signal.SIGTERM)


def _fault() -> None:
    raise OSError("the disk was unplugged")


def _result(model: nn.Module, history: History) -> Result:
    checks = tuple(replace(check, seconds=0) for check in history.checks)
    state = [tensor.detach().clone() for tensor in model.state_dict().values()]
    return state, replace(history, checks=checks, seconds=0)


def _assert_same(one: Result, other: Result) -> None:
    assert one[1] == other[1]
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


@pytest.mark.muon
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("chance", range(2))
def test_interrupted_run_ends_with_the_same_bits(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path, name: str, chance: int
) -> None:
    recipe = RECIPES[name]

    def run(seed: int, stops: dict[int, Callable[[], None]], path: Path | None) -> Result:
        model = make_model(batch_norm=True, dropout=0.3, seed=seed)
        loaders = _stopping(make_loaders(augmentation=AUGMENTED), stops)
        return _result(model, fit_quietly(model, loaders, recipe, seed=3, checkpoint=path))

    whole = run(0, {}, None)
    rng = random.Random(chance)
    steps = rng.sample(range(whole[1].steps), 3)
    stops = {step: rng.choice([_ctrl_c, _sigterm, _fault]) for step in steps}
    for attempt in range(3):  # each time with other initial weights, which must not matter
        with pytest.raises((KeyboardInterrupt, OSError)):
            run(attempt, stops, tmp_path / "run.pt")
    assert not stops
    _assert_same(run(3, {}, tmp_path / "run.pt"), whole)


@pytest.mark.parametrize("step", [0, 6, 11])
def test_ctrl_c_saves_the_current_step_and_restores_the_best_state(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, step: int
) -> None:
    path, model = tmp_path / "run.pt", make_model()
    weight = model.get_parameter("network.head.logits.bias")
    states, ends = dict[int, Tensor](), list[History]()

    class Observer(Callback):
        @override
        def on_check(self, check: Check) -> None:
            states[check.step] = weight.detach().clone()

        @override
        def on_end(self, history: History) -> None:
            ends.append(history)

    loaders = _stopping(make_loaders(), {step: _ctrl_c})
    run = partial(fit_quietly, loaders=loaders, recipe=recipe, checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        run(model, callbacks=[Observer()], provenance="a1, laptop")
    assert torch.load(path, weights_only=True)["payload"]["step"] == step + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not model.training
    (history,) = ends
    assert history.steps == step + 1
    assert history.stopped == ("interrupted" if step < 11 else "epochs")
    if history.best is None:  # interrupted before the first check
        assert history.best_step == step + 1
    else:
        assert torch.equal(weight, states[history.best_step])
    run(model, provenance="b2, server")
    assert read_parts(path) == ["a1, laptop", "b2, server"][: 1 + (step < 11)]


def test_finished_run_is_not_repeated(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    def run(seed: int, stops: dict[int, Callable[[], None]]) -> Result:
        model, loaders = make_model(seed=seed), _stopping(make_loaders(), stops)
        return _result(model, fit_quietly(model, loaders, recipe, checkpoint=tmp_path / "run.pt"))

    _assert_same(run(0, {}), run(1, {0: _fault}))


@pytest.mark.parametrize("step", [2, 6])
def test_torch_loader_resumes_in_the_same_order(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, step: int
) -> None:
    images, labels = (torch.cat(parts) for parts in zip(*make_loaders().train, strict=True))
    train = DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)
    loaders = Loaders(train, make_loaders().val)

    class Stop(Callback):
        @override
        def on_check(self, check: Check) -> None:
            if check.step == step:
                _ctrl_c()

    recipe, path = replace(recipe, checks_per_epoch=6), tmp_path / "run.pt"
    models = [make_model(dropout=0.2) for _ in range(3)]
    whole = fit_quietly(models[0], loaders, recipe)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(models[1], loaders, recipe, checkpoint=path, callbacks=[Stop()])
    torch.rand(step)
    resumed = fit_quietly(models[2], loaders, recipe, checkpoint=path)
    _assert_same(_result(models[2], resumed), _result(models[0], whole))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": Recipe(lr=0.1)}, r"recipe\.lr was 0\.05, is 0\.1"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"precision": "bfloat16"}, "precision was float32, is bfloat16"),
        ({"initial_weights": "long 0123"}, "initial_weights was None, is long 0123"),
    ],
)
def test_checkpoint_of_another_run_is_rejected_and_nothing_changes(
    make_model: MakeModel, loaders: Loaders, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path, other = tmp_path / "run.pt", make_model(seed=1)
    arguments: dict[str, Any] = {"recipe": Recipe(epochs=1, lr=0.05), "checkpoint": path}
    fit_quietly(make_model(), loaders, **arguments)
    content, before = path.read_bytes(), _clone(other)
    with pytest.raises(CheckpointError, match=message):
        fit_quietly(other, loaders, **arguments | changes)
    torch.testing.assert_close(_clone(other), before, rtol=0, atol=0)
    assert path.read_bytes() == content


def _clone(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "missing": lambda payload: payload["processes"][0].pop("rng"),
    "wrong type": lambda payload: payload.update(step="three"),
    "wrong shape": lambda payload: payload["best_model"].update(
        {"network.head.logits.bias": torch.zeros(3)}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_incomplete_checkpoint_is_rejected_and_nothing_changes(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, damage: str
) -> None:
    path, model = tmp_path / "run.pt", make_model(seed=1)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(make_model(), _stopping(make_loaders(), {7: _ctrl_c}), recipe, checkpoint=path)
    content = torch.load(path, weights_only=True)
    DAMAGES[damage](content["payload"])
    torch.save(content, path)
    before = _clone(model)
    with pytest.raises(CheckpointError, match=r"run\.pt is incomplete"):
        fit_quietly(model, _stopping(make_loaders(), {}), recipe, checkpoint=path)
    torch.testing.assert_close(_clone(model), before, rtol=0, atol=0)


def test_path_or_state_that_cannot_be_stored_is_rejected_before_the_first_step(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    class Odd(nn.Linear):
        @override
        def get_extra_state(self) -> object:
            return math.sqrt  # `weights_only` does not load functions

        @override
        def set_extra_state(self, state: object) -> None:
            pass

    (tmp_path / "file").write_text("in the way")
    loaders = _stopping(make_loaders(), {0: _fault})
    with pytest.raises(CheckpointError, match="cannot write checkpoint"):
        fit_quietly(make_model(), loaders, recipe, checkpoint=tmp_path / "file" / "run.pt")
    odd = nn.Sequential(nn.Flatten(), Odd(3072, 10))
    with pytest.raises(CheckpointError, match="as a checkpoint"):
        fit_quietly(odd, loaders, recipe, checkpoint=tmp_path / "run.pt")
