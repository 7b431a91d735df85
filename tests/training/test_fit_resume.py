"""A run that was stopped, however it was stopped, ends as if it had not been."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import cifarzoo
from cifarzoo import (
    Augmentation,
    Averaging,
    Callback,
    Check,
    CheckpointError,
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
from cifarzoo.spec import KeepName
from cifarzoo.training.checkpoint import Payload, load_checkpoint, save_checkpoint
from cifarzoo.training.identity import identity_of

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]
Result = tuple[list[Tensor], History]

AUGMENTED = Augmentation(flip="alternating", translate=2, cutout=6, rand_augment=1)
RECIPES = {
    "sgd": Recipe(epochs=3, lr=0.1, momentum=0.9, checks_per_epoch=3),
    "adam": Recipe(epochs=3, optimizer="adam", lr=0.01, checks_per_epoch=2, schedule="cosine"),
    "adamw": Recipe(epochs=3, optimizer="adamw", lr=0.01, schedule="one_cycle", keep="last"),
    "warm-up": Recipe(epochs=3, lr=0.1, warmup_epochs=1.5, schedule="cosine", checks_per_epoch=6),
    "groups": Recipe(
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
            ParamGroup(params="*.conv1.weight", norm="kept"),
        ),
    ),
    "averaged": Recipe(
        epochs=3, lr=0.1, checks_per_epoch=2, averaging=Averaging(decay=0.8, start_epochs=0.5)
    ),
    "mean of the end": Recipe(
        epochs=3, lr=0.1, keep="last", averaging=Averaging(decay=None, start_epochs=1.5)
    ),
    "mixed": Recipe(
        epochs=3,
        lr=0.1,
        decay="weights",
        weight_decay=1e-2,
        mixing=Mixing(kind="either", share=0.7),
    ),
    "early": Recipe(epochs=9, lr=0.5, checks_per_epoch=3, early_stopping=EarlyStopping(patience=3)),
}
MARKS = {"muon": pytest.mark.muon}
each_recipe = pytest.mark.parametrize(
    "recipe",
    [pytest.param(each, marks=MARKS.get(each.optimizer, ())) for each in RECIPES.values()],
    ids=RECIPES,
)


@pytest.fixture(autouse=True)
def _usual_handler() -> Iterator[None]:
    """A job in the background may have been started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class StoppingLoader:
    """Another loader, which does something when it gives a certain batch of the run."""

    def __init__(self, loaders: Loaders, stops: dict[int, Callable[[], None]]) -> None:
        self._loader, self._stops, self._epoch = loaders.train, stops, 0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.iter_from(0)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._loader.set_epoch(epoch)  # type: ignore[attr-defined]

    def iter_from(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rest = self._loader.iter_from(batch)  # type: ignore[attr-defined]
        for number, images_and_labels in enumerate(rest, self._epoch * len(self) + batch):
            self._stops.pop(number, lambda: None)()
            yield images_and_labels


def _ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def _fault() -> None:
    raise OSError("the cable was pulled")


def _result(model: nn.Module, history: History) -> Result:
    checks = tuple(replace(check, seconds=0) for check in history.checks)
    state = [tensor.detach().clone() for tensor in model.state_dict().values()]
    return state, replace(history, checks=checks, seconds=0)


def _assert_same(one: Result, other: Result) -> None:
    assert one[1] == other[1]
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


def _uninterrupted(make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe) -> Result:
    model = make_model(block_norm="batch", dropout=0.3)
    return _result(model, fit_quietly(model, make_loaders(augmentation=AUGMENTED), recipe, seed=3))


def _stopped_run(
    make_model: MakeModel,
    make_loaders: MakeLoaders,
    recipe: Recipe,
    path: Path,
    stops: dict[int, Callable[[], None]],
) -> Result:
    """Run until it is done, from a new model every time that it was stopped."""
    for attempt in range(len(stops) + 1):
        model = make_model(block_norm="batch", dropout=0.3, seed=attempt)
        if attempt == 0:
            model = make_model(block_norm="batch", dropout=0.3)
        loaders = make_loaders(augmentation=AUGMENTED)
        stopping = Loaders(StoppingLoader(loaders, stops), loaders.val)
        try:
            torch.manual_seed(attempt)
            return _result(model, fit_quietly(model, stopping, recipe, seed=3, checkpoint=path))
        except (KeyboardInterrupt, OSError):
            continue
    raise AssertionError("the run was stopped more often than it was told to")


@each_recipe
@pytest.mark.parametrize("chance", range(2))
def test_run_that_was_stopped_ends_with_the_same_bits(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path, recipe: Recipe, chance: int
) -> None:
    whole = _uninterrupted(make_model, make_loaders, recipe)
    dice = random.Random(chance)
    steps = dice.sample(range(whole[1].steps), 3)
    stops = {step: dice.choice([_ctrl_c, _fault]) for step in sorted(steps)}
    stopped = _stopped_run(make_model, make_loaders, recipe, tmp_path / "run.pt", stops)
    _assert_same(stopped, whole)
    assert not stops


def _identity(model: nn.Module, recipe: Recipe, loaders: Loaders) -> Payload:
    assert isinstance(loaders.val, TensorLoader)
    return identity_of(model, recipe, 0, 6, validation=loaders.val.fingerprint)


Damage: TypeAlias = Callable[[dict[str, Any]], object]
DAMAGES: dict[str, Damage] = {
    "a key less": lambda payload: payload.pop("rng"),
    "no model": lambda payload: payload.pop("model"),
    "a key less in the optimizer": lambda payload: payload["optimizers"].pop("norms"),
    "a step that is text": lambda payload: payload.update(step="3"),
    "a step before the first": lambda payload: payload.update(step=-1),
    "a step after the last": lambda payload: payload.update(step=10**6),
    "checks that are none": lambda payload: payload.update(checks=[{"step": 1}]),
    "another ending": lambda payload: payload.update(stopped="tired"),
    "a short random state": lambda payload: payload.update(rng=torch.zeros(8, dtype=torch.uint8)),
    "another shape": lambda payload: payload["model"].update(
        {"network.head.logits.bias": torch.zeros(3)}
    ),
    "another shape of the best": lambda payload: payload["best_model"].update(
        {"network.head.logits.bias": torch.zeros(3)}
    ),
    "no number": lambda payload: payload["best_model"]["network.head.logits.bias"].fill_(math.nan),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_checkpoint_of_the_run_that_is_not_whole_is_refused_and_changes_nothing(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, damage: str
) -> None:
    path, model, loaders = tmp_path / "run.pt", make_model(), make_loaders()
    stopping = Loaders(StoppingLoader(loaders, {7: _ctrl_c}), loaders.val)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(model, stopping, recipe, checkpoint=path)
    identity = _identity(model, recipe, loaders)
    payload = load_checkpoint(path, identity)
    assert payload is not None
    DAMAGES[damage](payload)
    save_checkpoint(path, payload, identity)
    fresh = make_model(seed=1)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    again = Loaders(StoppingLoader(loaders, {}), loaders.val)
    with pytest.raises(CheckpointError, match=r"run\.pt is the checkpoint of this run, but not"):
        fit_quietly(fresh, again, recipe, checkpoint=path)
    torch.testing.assert_close(fresh.state_dict(), before, rtol=0, atol=0)


def test_checkpoint_of_other_layers_or_other_validation_images_is_refused(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    path, loaders = tmp_path / "run.pt", make_loaders()
    fit_quietly(make_model(dropout=0.1), loaders, recipe, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"model: 'ImageClassifier of [\d,]+ parameters"):
        fit_quietly(make_model(dropout=0.2), loaders, recipe, checkpoint=path)
    with pytest.raises(CheckpointError, match="validation: "):
        fit_quietly(make_model(dropout=0.1), make_loaders(n_val=18), recipe, checkpoint=path)


@pytest.mark.parametrize("step", [0, 1, 5, 6, 7, 11])
def test_ctrl_c_keeps_the_very_step(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, step: int
) -> None:
    path, model, loaders = tmp_path / "run.pt", make_model(), make_loaders()
    stopping = Loaders(StoppingLoader(loaders, {step: _ctrl_c}), loaders.val)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(model, stopping, recipe, checkpoint=path)
    stored = load_checkpoint(path, _identity(model, recipe, loaders))
    assert stored is not None
    assert stored["step"] == step + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not model.training


def test_ctrl_c_leaves_the_best_state_and_tells_the_callbacks(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe
) -> None:
    ends: list[History] = []

    class End(Callback):
        def on_start(self, model: nn.Module, recipe: Recipe) -> None:
            self.model, self.states = model, dict[int, Tensor]()

        def on_check(self, check: Check) -> None:
            self.states[check.step] = self.model.get_parameter("network.head.logits.bias").clone()

        def on_end(self, history: History) -> None:
            ends.append(history)

    loaders, model, end = make_loaders(), make_model(), End()
    stopping = Loaders(StoppingLoader(loaders, {8: _ctrl_c}), loaders.val)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(model, stopping, recipe, callbacks=[end])
    (history,) = ends
    assert (history.stopped, history.steps) == ("interrupted", 9)
    kept = end.states[history.best_step]
    assert torch.equal(model.get_parameter("network.head.logits.bias"), kept)


@pytest.mark.parametrize(("keep", "step"), [("last", 9), ("best", 1)])
def test_run_that_keeps_no_earlier_state_says_which_one_it_left(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, keep: KeepName, step: int
) -> None:
    """It keeps the last one, or was stopped before there was a best one."""
    ends: list[History] = []

    class End(Callback):
        def on_end(self, history: History) -> None:
            ends.append(history)

    loaders, recipe = make_loaders(), replace(recipe, keep=keep)
    stopping = Loaders(StoppingLoader(loaders, {step - 1: _ctrl_c}), loaders.val)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(make_model(), stopping, recipe, callbacks=[End()])
    assert (ends[0].best_step, ends[0].best) == (step, None)


def test_second_ctrl_c_does_not_wait(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    def twice() -> None:
        _ctrl_c()
        _ctrl_c()

    path, model, loaders = tmp_path / "run.pt", make_model(), make_loaders()
    stopping = Loaders(StoppingLoader(loaders, {7: twice}), loaders.val)
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(model, stopping, recipe, checkpoint=path)
    stored = load_checkpoint(path, _identity(model, recipe, loaders))
    assert stored is not None
    assert stored["step"] == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_run_that_is_done_is_not_run_again(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    path, first, loaders = tmp_path / "run.pt", make_model(), make_loaders()
    once = Loaders(StoppingLoader(make_loaders(), {}), loaders.val)
    one = _result(first, fit_quietly(first, once, recipe, checkpoint=path))
    second = make_model(seed=1)
    never = Loaders(StoppingLoader(loaders, dict.fromkeys(range(12), _fault)), loaders.val)
    two = _result(second, fit_quietly(second, never, recipe, checkpoint=path))
    _assert_same(one, two)


def test_checkpoint_of_other_images_is_refused(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    fit_quietly(make_model(), make_loaders(), recipe, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"belongs to another run \(data: "):
        fit_quietly(make_model(), make_loaders(seed=1), recipe, checkpoint=path)


@pytest.mark.parametrize("step", [2, 5, 8])
def test_torchs_own_loader_goes_on_in_the_same_order(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path, step: int
) -> None:
    images, labels = (torch.cat(parts) for parts in zip(*make_loaders().train, strict=True))
    data = DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)
    val = make_loaders().val

    class Stop(Callback):
        def on_check(self, check: Check) -> None:
            if check.step == step:
                _ctrl_c()

    recipe = replace(recipe, checks_per_epoch=6)
    models = [make_model(dropout=0.2), make_model(dropout=0.2), make_model(dropout=0.2)]
    whole = fit_quietly(models[0], Loaders(data, val), recipe)
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(models[1], Loaders(data, val), recipe, checkpoint=path, callbacks=[Stop()])
    torch.rand(step)
    resumed = fit_quietly(models[2], Loaders(data, val), recipe, checkpoint=path)
    _assert_same(_result(models[2], resumed), _result(models[0], whole))


def test_checkpoint_of_another_recipe_is_refused_and_the_model_left_alone(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    fit_quietly(make_model(), make_loaders(), recipe, checkpoint=path)
    content = path.read_bytes()
    other = make_model(seed=1)
    before = [tensor.clone() for tensor in other.state_dict().values()]
    with pytest.raises(CheckpointError, match=r"recipe.lr: '0.05' in the file, '0.1' now"):
        fit_quietly(other, make_loaders(), replace(recipe, lr=0.1), checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(before, other.state_dict().values(), strict=True))
    for changed, what in (
        (make_model(filters=(4, 4)), "model"),
        (make_model(), "seed"),
        (make_model(), "steps_per_epoch"),
    ):
        with pytest.raises(CheckpointError, match=f"another run .*{what}"):
            fit_quietly(
                changed,
                make_loaders(batch_size=4 if what == "steps_per_epoch" else 8),
                recipe,
                seed=int(what == "seed"),
                checkpoint=path,
            )
    assert path.read_bytes() == content


def test_path_that_cannot_be_written_is_refused_before_the_first_step(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    loaders = make_loaders()
    never = Loaders(StoppingLoader(loaders, {0: _fault}), loaders.val)
    with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
        fit_quietly(make_model(), never, recipe, checkpoint=tmp_path / "file" / "run.pt")


RUN = """
import os, signal, sys
import torch
from cifarzoo import Layout, Loaders, Recipe, TensorLoader, fit, report_model

def run(path, deadly=0):
    torch.manual_seed(0)
    model = report_model(Layout(filters=(4, 8), kernel_size=3, hidden=(8,), dropout=0.2))
    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(48) % 10
    train = TensorLoader(images, labels, batch_size=8, shuffle="every_epoch")
    recipe = Recipe(epochs=2, lr=0.1, momentum=0.9, checks_per_epoch=3)
    flush, count = os.fsync, 0

    def killed(handle):
        nonlocal count
        flush(handle)
        count += 1
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)  # the file is written, but has no name yet: every
            # write flushes the file, then its folder, and this is the fourth file

    if deadly:
        os.fsync = killed
    val = TensorLoader(images[:16], labels[:16])
    history = fit(model, Loaders(train, val), recipe, device="cpu", precision="float32",
                  checkpoint=path, progress=False)
    return model, history
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_process_goes_on_to_the_same_result(tmp_path: Path) -> None:
    path, names = tmp_path / "run.pt", dict[str, Any]()
    exec(RUN, names)
    whole = names["run"](None)
    killed = subprocess.run(
        [sys.executable, "-c", f"{RUN}\nrun(sys.argv[1], 7)", str(path)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cifarzoo.__file__).parents[1])},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.iterdir())) == 2, "it was killed in the middle of a write"
    stored = torch.load(path, weights_only=True)["payload"]
    assert stored["step"] == 4
    _assert_same(_result(*names["run"](path)), _result(*whole))
    assert list(tmp_path.iterdir()) == [path], "the half-written file is gone"
