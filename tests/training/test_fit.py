from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo import (
    Augmentation,
    Averaging,
    Callback,
    Check,
    CheckpointError,
    Distillation,
    EarlyStopping,
    History,
    ImageClassifier,
    Loaders,
    Mixing,
    OptionError,
    ParamGroup,
    Recipe,
    evaluate,
    fit,
)
from cifarzoo.spec import OptimizerName

fit_quietly = partial(fit, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]


def _bits(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _timeless(history: History) -> History:
    checks = tuple(replace(check, seconds=0) for check in history.checks)
    return replace(history, checks=checks, seconds=0)


class Snapshots(Callback):
    """Keep the model's state at every check."""

    def __init__(self) -> None:
        self.states: dict[int, list[Tensor]] = {}

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model

    def on_check(self, check: Check) -> None:
        self.states[check.step] = _bits(self.model)


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
    assert history.images_per_second > 0
    assert not any(module.training for module in model.modules())


def test_validation_figures_are_evaluates(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    history = fit_quietly(model, loaders, replace(recipe, keep="last"))
    assert loaders.val is not None
    score = evaluate(model, loaders.val, device="cpu", precision="float32")
    assert history.checks[-1].val_loss == pytest.approx(score.loss)
    assert history.checks[-1].val_accuracy == score.accuracy


def test_lowest_validation_loss_decides_which_state_is_left(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    snapshots, model = Snapshots(), make_model()
    recipe = Recipe(epochs=4, batch_size=8, lr=0.5, checks_per_epoch=6)
    history = fit_quietly(model, make_loaders(n_val=8), recipe, callbacks=[snapshots])
    losses = {check.step: check.val_loss or math.nan for check in history.checks}
    best = min(losses, key=lambda step: losses[step])
    assert best != history.checks[-1].step, "the test needs a run that gets worse"
    assert history.best_step == best
    assert history.best is not None
    assert history.best.val_loss == losses[best]
    assert _same(_bits(model), snapshots.states[best])


def test_last_state_is_left_where_the_recipe_says_so(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    snapshots, model = Snapshots(), make_model()
    recipe = Recipe(epochs=1, batch_size=8, lr=0.5, checks_per_epoch=2, keep="last")
    history = fit_quietly(model, make_loaders(n_train=40), recipe, callbacks=[snapshots])
    assert [check.step for check in history.checks] == [2, 4, 5]
    assert history.best_step == 5
    assert _same(_bits(model), snapshots.states[5])


def test_run_needs_no_validation(make_model: MakeModel, make_loaders: MakeLoaders) -> None:
    model, last = make_model(), make_model()
    recipe = Recipe(epochs=2, batch_size=8)
    history = fit_quietly(model, make_loaders(n_val=0), recipe)
    fit_quietly(last, make_loaders(), replace(recipe, keep="last"))
    assert [check.val_loss for check in history.checks] == [None, None]
    assert [check.val_accuracy for check in history.checks] == [None, None]
    assert history.best_step == 12
    assert _same(_bits(model), _bits(last))


def test_early_stop_ends_the_run_at_a_check(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    recipe = Recipe(
        epochs=50,
        batch_size=8,
        lr=0.5,
        checks_per_epoch=3,
        early_stopping=EarlyStopping(patience=3),
    )
    history = fit_quietly(make_model(), make_loaders(n_val=8), recipe)
    losses = [check.val_loss or math.nan for check in history.checks]
    assert history.stopped == "early"
    assert losses[-3] == min(losses[-3:])
    assert all(losses[i] != min(losses[i : i + 3]) for i in range(len(losses) - 3))
    assert history.steps == history.checks[-1].step < 300


RECIPES = {
    "sgd": Recipe(epochs=2, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": Recipe(epochs=2, optimizer="adam", lr=1e-3, label_smoothing=0.1),
    "adamw": Recipe(epochs=2, optimizer="adamw", lr=1e-3, schedule="one_cycle"),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_same_seed_gives_the_same_bits(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe
) -> None:
    def run(seed: int, start: int) -> tuple[list[Tensor], History]:
        torch.manual_seed(start)  # what was drawn before does not matter
        model = make_model(block_norm="batch", dropout=0.2)
        loaders = make_loaders(augmentation=Augmentation(flip="random", translate=2))
        history = fit_quietly(model, loaders, recipe, seed=seed)
        return _bits(model), _timeless(history)

    (first, one), (again, two), (other, three) = run(5, 0), run(5, 1), run(6, 0)
    assert _same(first, again)
    assert one == two
    assert not _same(first, other), "the seed does not reach the dropout"
    assert one != three


def test_global_random_state_is_left_as_it_was(
    make_model: MakeModel,
    make_loaders: MakeLoaders,
    recipe: Recipe,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    model, loaders = make_model(dropout=0.5), make_loaders()
    with global_state_untouched():
        fit_quietly(model, loaders, recipe)


def test_progress_bar_changes_nothing_but_the_screen(
    make_model: MakeModel,
    make_loaders: MakeLoaders,
    recipe: Recipe,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal cuts the figures off
    hidden, shown = make_model(dropout=0.2), make_model(dropout=0.2)
    one = fit_quietly(hidden, make_loaders(), recipe)
    assert capsys.readouterr() == ("", "")
    two = fit(shown, make_loaders(), recipe, device="cpu", precision="float32")
    out, err = capsys.readouterr()
    assert not out
    assert "12/12" in err
    assert "loss" in err
    assert "validation" in err
    assert _same(_bits(hidden), _bits(shown))
    assert _timeless(one) == _timeless(two)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_frozen_parameters_do_not_move(
    make_model: MakeModel, make_loaders: MakeLoaders, name: OptimizerName
) -> None:
    model = make_model()
    frozen = model.get_parameter("network.block1.conv1.weight").requires_grad_(False)
    trained = model.get_parameter("network.block2.conv1.weight")
    before = frozen.detach().clone(), trained.detach().clone()
    fit_quietly(model, make_loaders(), Recipe(epochs=1, optimizer=name, weight_decay=0.1))
    assert torch.equal(frozen, before[0])
    assert not torch.equal(trained, before[1])


def test_group_stays_as_it_is_after_its_epochs_and_can_be_trained_again(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    class Watch(Snapshots):
        def on_check(self, check: Check) -> None:
            weight = self.model.get_parameter("network.block1.conv1.weight")
            self.states[round(check.epoch)] = [weight.detach().clone()]

    model, watch = make_model(), Watch()
    groups = (ParamGroup(params="*.block1.conv1.*", epochs=2, weight_decay=0.1),)
    fit_quietly(model, make_loaders(), Recipe(epochs=4, groups=groups), callbacks=[watch])
    assert not _same(watch.states[1], watch.states[2])
    assert _same(watch.states[2], watch.states[4])
    assert all(tensor.requires_grad for tensor in model.parameters())


def test_module_that_stays_in_evaluation_mode_by_itself_is_left_alone(
    make_loaders: MakeLoaders, recipe: Recipe
) -> None:
    """A frozen batch norm keeps its statistics, in training and after a check."""

    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    norm = Frozen(3)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(3072, 10))
    fit_quietly(model, make_loaders(), recipe)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == 0


def _as_tensors(loaders: Loaders) -> list[tuple[Tensor, Tensor]]:
    return list(loaders.train)


def test_plain_list_is_a_loader(make_model: MakeModel, loaders: Loaders, recipe: Recipe) -> None:
    batches = _as_tensors(loaders)
    assert loaders.val is not None
    history = fit_quietly(make_model(), Loaders(batches, list(loaders.val)), recipe)
    assert history.steps == 12
    assert len(history.checks) == 6


def test_torch_loader_is_a_loader_and_its_order_is_seeded(
    make_model: MakeModel, loaders: Loaders, recipe: Recipe
) -> None:
    images, labels = (torch.cat(parts) for parts in zip(*_as_tensors(loaders), strict=True))
    train = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    results = []
    for _ in range(2):
        model = make_model()
        history = fit_quietly(model, Loaders(train, loaders.val), recipe)
        results.append(_bits(model))
    assert _same(*results)
    assert history.steps == 10
    assert history.images == 96  # the ragged last batch counts what it holds


class Epochs:
    """A loader that notes which epochs it was told of."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches, self.told = batches, list[int]()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


def test_loader_is_told_the_epoch(make_model: MakeModel, loaders: Loaders) -> None:
    train = Epochs(_as_tensors(loaders))
    fit_quietly(make_model(), Loaders(train, loaders.val), Recipe(epochs=3))
    assert train.told == [0, 1, 2]


def test_second_run_with_the_same_loaders_is_the_same_run(
    make_model: MakeModel, make_loaders: MakeLoaders, recipe: Recipe
) -> None:
    loaders, models = (
        make_loaders(augmentation=Augmentation(cutout=8)),
        [make_model(), make_model()],
    )
    for model in models:
        fit_quietly(model, loaders, recipe)
    assert _same(_bits(models[0]), _bits(models[1]))


def test_label_smoothing_reaches_the_loss(make_model: MakeModel, loaders: Loaders) -> None:
    model = make_model()
    recipe = Recipe(epochs=1, checks_per_epoch=6, label_smoothing=0.3, lr=0.01)
    train = _as_tensors(loaders)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(train[0][0]), train[0][1], label_smoothing=0.3)
    history = fit_quietly(model, Loaders(train), recipe)
    assert history.checks[0].train_loss == pytest.approx(expected.item(), abs=1e-6)


def test_rate_follows_the_schedule_from_step_to_step(
    make_model: MakeModel, loaders: Loaders
) -> None:
    recipe = Recipe(epochs=2, checks_per_epoch=6, lr=0.1, schedule="cosine")
    history = fit_quietly(make_model(), loaders, recipe)
    expected = [0.05 * (1 + math.cos(math.pi * k / 12)) for k in range(12)]
    assert [check.lr for check in history.checks] == pytest.approx(expected)


def test_bfloat16_computes_in_it_and_keeps_the_weights_in_float32(
    make_model: MakeModel, loaders: Loaders, recipe: Recipe
) -> None:
    model, seen = make_model(), list[torch.dtype]()
    layer = model.get_submodule("network.block1.conv1")
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    history = fit(model, loaders, recipe, device="cpu", precision="bfloat16", progress=False)
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(math.isfinite(check.train_loss) for check in history.checks)


def test_images_and_weights_are_channels_last(
    make_model: MakeModel, loaders: Loaders, recipe: Recipe
) -> None:
    model, seen = make_model(), list[bool]()

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    model.get_submodule("network.block1.conv1").register_forward_pre_hook(note)
    fit_quietly(model, Loaders([(x.contiguous(), y) for x, y in loaders.train]), recipe)
    assert all(seen)
    weight = model.get_parameter("network.block2.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_losses_are_read_once_a_check_and_not_every_step(
    make_model: MakeModel, loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, to read a number is to wait for it."""
    reads, item = list[Tensor](), Tensor.item

    def noted(self: Tensor) -> float:
        reads.append(self)
        return item(self)

    monkeypatch.setattr(Tensor, "item", noted)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    fit_quietly(model, Loaders(loaders.train), Recipe(epochs=1))
    assert len(reads) <= 4


def test_state_that_is_no_tensor_is_kept_and_compared(make_loaders: MakeLoaders) -> None:
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self) -> dict[str, int]:
            return {"count": self.count}

        def set_extra_state(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    head = Counting(48, 10)
    head.count = 5
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), head)
    recipe = Recipe(epochs=2, lr=0.01)
    history = fit_quietly(model, make_loaders(), recipe)
    assert history.best is not None
    assert head.count == 5


def test_run_with_numbers_of_numpy_resumes(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, lr=np.float64(0.01), weight_decay=np.float64(0.1))
    one, two = (
        fit_quietly(make_model(), make_loaders(), recipe, checkpoint=tmp_path / "run.pt")
        for _ in range(2)
    )
    assert _timeless(one) == _timeless(two)


def test_checkpoint_of_another_precision_is_refused(
    make_model: MakeModel, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    run = partial(fit_quietly, loaders=make_loaders(), recipe=Recipe(epochs=1))
    run(make_model(), checkpoint=tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="precision: 'float32' in the file, 'bfloat16' now"):
        run(make_model(), checkpoint=tmp_path / "run.pt", precision="bfloat16")


def test_average_of_the_weights_is_validated_and_kept(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    averaging = Averaging(decay=0.9)
    for keep, val in (("last", 20), ("best", 20), ("last", 0)):
        recipe = Recipe(epochs=2, lr=0.1, keep=keep, averaging=averaging)  # type: ignore[arg-type]
        loaders = make_loaders(n_val=val)
        averaged, last = make_model(block_norm="batch"), make_model(block_norm="batch")
        history = fit_quietly(averaged, loaders, recipe)
        fit_quietly(last, loaders, replace(recipe, averaging=None, keep="last"))
        assert not _same(_bits(averaged), _bits(last))
        if loaders.val is not None:
            score = evaluate(averaged, loaders.val, device="cpu", precision="float32")
            checks = {check.step: check.val_loss for check in history.checks}
            assert score.loss == pytest.approx(checks[history.best_step], rel=1e-5)


def test_average_that_has_not_begun_is_the_model(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    averaging = Averaging(decay=None, start_epochs=1.99)
    recipe = Recipe(epochs=2, lr=0.1, keep="last", averaging=averaging)
    one, other = make_model(), make_model()
    history = fit_quietly(one, make_loaders(), recipe)
    plain = fit_quietly(other, make_loaders(), replace(recipe, averaging=None))
    assert _timeless(history) == _timeless(plain)
    assert _same(_bits(one), _bits(other))


def test_mixed_batches_train(make_model: MakeModel, make_loaders: MakeLoaders) -> None:
    recipe = Recipe(epochs=40, lr=0.02, momentum=0.9, mixing=Mixing(kind="mixup", alpha=0.2))
    history = fit_quietly(make_model(), make_loaders(), recipe)
    losses = [check.val_loss for check in history.checks if check.val_loss is not None]
    assert min(losses) < 0.5 * losses[0]


def test_network_learns_a_teachers_answers(
    make_model: MakeModel, make_loaders: MakeLoaders
) -> None:
    """The teacher knows other labels than the loader gives."""
    loaders = make_loaders(n_train=80)
    assert loaders.val is not None
    turned = [(images, (labels + 1) % 10) for images, labels in loaders.train]
    teacher, student = make_model(seed=1), make_model()
    strong = Recipe(epochs=60, lr=0.1, momentum=0.9, keep="last")
    fit_quietly(teacher, Loaders(turned), strong)
    before = _bits(teacher)
    recipe = replace(strong, distillation=Distillation(teacher="other", share=1.0, temperature=1))
    fit_quietly(student, Loaders(loaders.train), recipe, teacher=teacher.train())
    assert _same(_bits(teacher), before)
    assert not teacher.training
    images, labels = next(iter(loaders.val))
    with torch.no_grad():
        agreement = (student(images).argmax(1) == (labels + 1) % 10).float().mean()
    assert agreement > 0.5


def test_recipe_and_teacher_go_together(
    model: ImageClassifier, make_model: MakeModel, loaders: Loaders, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, distillation=Distillation(teacher="sprint_l"))
    with pytest.raises(OptionError, match=r"distils 'sprint_l', and teacher is None; give fit\(te"):
        fit_quietly(model, loaders, recipe)
    with pytest.raises(OptionError, match="the recipe has no distillation"):
        fit_quietly(model, loaders, Recipe(epochs=1), teacher=make_model())
    path = tmp_path / "run.pt"
    fit_quietly(model, loaders, recipe, teacher=make_model(seed=1), checkpoint=path)
    with pytest.raises(CheckpointError, match="teacher: "):
        fit_quietly(model, loaders, recipe, teacher=make_model(seed=2), checkpoint=path)
