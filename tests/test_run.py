from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cifarzoo import (
    Augmentation,
    CifarZooError,
    DataNotFoundError,
    Distillation,
    History,
    ImageClassifier,
    Layout,
    Loaders,
    Mixing,
    ModelCard,
    NonFiniteLossError,
    OptionError,
    Preprocess,
    Recipe,
    Run,
    Selection,
    UnknownModelError,
    WeightsError,
    build_model,
    evaluate,
    fit,
    run,
    save_weights,
    train,
    transfer_classifier,
)
from cifarzoo.models.report import report_model
from cifarzoo.run import load_data

train_quietly = partial(train, device="cpu", precision="float32", progress=False)

MakeLoaders = Callable[..., Loaders]
MakeModel = Callable[..., ImageClassifier]


@pytest.fixture
def card(make_model: MakeModel) -> ModelCard:
    layout = Layout(filters=(4, 8), kernel_size=3, hidden=(8,), dropout=0.1)
    return ModelCard(
        name="tiny",
        family="report",
        summary="A network for tests.",
        builder=partial(report_model, layout),
        recipe=Recipe(epochs=2, batch_size=8, checks_per_epoch=2),
        paper="none",
    )


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_card_is_built_fitted_and_scored(card: ModelCard, make_loaders: MakeLoaders) -> None:
    loaders = make_loaders(n_train=50, augmentation=Augmentation(cutout=16))
    done = train_quietly(card, data=loaders)
    assert isinstance(done, Run)
    assert (done.card, done.seed) == (card, 0)
    assert done.history.steps == 12
    assert not any(module.training for module in done.model.modules())
    assert done.train is not None
    assert done.val is not None
    assert done.test is not None
    assert (done.train.n, done.val.n, done.test.n) == (50, 20, 10)  # the dropped two are scored
    again = evaluate(done.model, loaders.test or [], device="cpu", precision="float32")
    assert again.loss == done.test.loss
    assert done.history.best is not None
    assert done.val.loss == pytest.approx(done.history.best.val_loss)


def test_training_images_are_scored_without_augmentation(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    plain = make_loaders()
    done = train_quietly(card, data=make_loaders(augmentation=Augmentation(cutout=32)))
    score = evaluate(done.model, plain.train, device="cpu", precision="float32")
    assert done.train is not None
    assert done.train.loss == pytest.approx(score.loss)


def test_seed_decides_everything(
    card: ModelCard,
    make_loaders: MakeLoaders,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    runs = []
    for seed, start in ((1, 10), (1, 11), (2, 10)):
        torch.manual_seed(start)
        with global_state_untouched():
            runs.append(train_quietly(card, data=make_loaders(), seed=seed))
    assert _same(runs[0].model, runs[1].model)
    assert not _same(runs[0].model, runs[2].model)
    assert runs[2].seed == 2


class Counted:
    """A foreign loader that counts how often it is read."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches, self.reads = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.reads += 1
        return iter(self.batches)


def test_test_set_is_looked_at_once_and_at_the_end(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    made = make_loaders()
    test, val = Counted(list(made.test or [])), Counted(list(made.val or []))
    done = train_quietly(card, data=Loaders(made.train, val, test))
    assert test.reads == 1
    assert val.reads == len(done.history.checks) + 1


def test_test_time_augmentation_is_a_second_figure(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    loaders = make_loaders()
    plain = train_quietly(card, data=loaders)
    done = train_quietly(card, data=make_loaders(), tta="flip_translate")
    assert plain.test_tta is None
    assert plain.test is not None
    assert done.test is not None
    assert done.test_tta is not None
    assert _same(done.model, plain.model)
    assert (done.test.tta, done.test.loss) == ("none", plain.test.loss)
    views = evaluate(
        done.model, loaders.test or [], device="cpu", precision="float32", tta="flip_translate"
    )
    assert (done.test_tta.tta, done.test_tta.n) == ("flip_translate", 10)
    assert done.test_tta.loss == views.loss != done.test.loss
    assert not any(module.training for module in done.model.modules())


def test_without_a_test_set_there_is_nothing_to_augment(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    made = make_loaders()
    done = train_quietly(card, data=Loaders(made.train, made.val), tta="flip")
    assert (done.test, done.test_tta) == (None, None)


def test_unknown_test_time_augmentation_is_refused_before_anything_is_built(
    card: ModelCard, loaders: Loaders
) -> None:
    def never(num_classes: int) -> ImageClassifier:
        raise AssertionError("a model was built")

    unknown: Any = "flip_translat"
    with pytest.raises(OptionError, match="unknown tta 'flip_translat'; did you mean 'flip_tran"):
        train_quietly(replace(card, builder=never), data=loaders, tta=unknown)


def test_foreign_loaders_are_trained_on_but_not_scored_as_training_images(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    made = make_loaders()
    done = train_quietly(card, data=Loaders(list(made.train)))
    assert (done.train, done.val, done.test) == (None, None, None)
    assert done.history.steps == 12


def test_recipe_takes_the_place_of_the_cards(card: ModelCard, make_loaders: MakeLoaders) -> None:
    recipe = replace(card.recipe, epochs=1, optimizer="adam", lr=0.001)
    done = train_quietly(card, data=make_loaders(), recipe=recipe)
    assert done.card == replace(card, recipe=recipe)
    assert done.history.steps == 6


def test_run_goes_on_from_its_checkpoint(
    card: ModelCard, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    one = train_quietly(card, data=make_loaders(), checkpoint=path)
    two = train_quietly(card, data=make_loaders(), checkpoint=path)
    assert _same(one.model, two.model)
    assert one.history == two.history


def test_model_of_the_zoo_is_trained_by_its_name(make_loaders: MakeLoaders) -> None:
    recipe = Recipe(epochs=1, batch_size=8)
    loaders = make_loaders(n_train=8, n_val=8, n_test=0)
    done = train_quietly("report_baseline", data=loaders, recipe=recipe)
    assert done.card.name == "report_baseline"
    assert done.test is None


def test_run_that_diverges_hands_its_best_state_over(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    made = make_loaders()
    spoilt = [(images, labels) for images, labels in made.train]
    network = replace(card, builder=lambda classes: ImageClassifier(Preprocess(), Spoilt(classes)))
    with pytest.raises(NonFiniteLossError) as caught:
        train_quietly(network, data=Loaders(spoilt, made.val))
    model = caught.value.model
    assert isinstance(model, ImageClassifier)
    assert not model.training
    assert caught.value.history.best_step == 3
    score = evaluate(model, made.val or [], device="cpu", precision="float32")
    assert caught.value.history.best is not None
    assert score.loss == pytest.approx(caught.value.history.best.val_loss)


class Spoilt(nn.Module):
    """A network that gives NaN from its fifth training step on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(3072, classes), 0

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        logits: Tensor = self.layer(images.flatten(1))
        return logits * (float("nan") if self.training and self.steps >= 5 else 1)


def test_unknown_model_is_refused_before_data_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> Loaders:
        raise AssertionError("data was looked for")

    monkeypatch.setattr(run, "load_data", never)
    with pytest.raises(UnknownModelError, match="did you mean 'report_best'"):
        train_quietly("report_bst")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "cifar-10"}, "unknown data set 'cifar-10'; did you mean 'cifar10'"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"device": "gpu"}, r"device 'gpu' cannot be used \(there is no such device\); allowed"),
        ({"precision": "half"}, "unknown precision 'half'"),
    ],
)
def test_bad_options_are_refused(
    card: ModelCard, loaders: Loaders, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        train(card, **{"data": loaders, "progress": False, **changes})


def test_missing_data_is_said_before_anything_is_trained(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError):
        train_quietly(card, root=tmp_path / "nowhere", download=False)


@pytest.mark.parametrize("name", ["cifar10", "shapes"])
def test_data_is_loaded_as_the_recipe_says(
    monkeypatch: pytest.MonkeyPatch, loaders: Loaders, name: str
) -> None:
    given: dict[str, object] = {}

    def loads(batch_size: int, **options: object) -> Loaders:
        given.update(options, batch_size=batch_size)
        return loaders

    monkeypatch.setattr(run, f"{name}_loaders", loads)
    augmentation = Augmentation(flip="random")
    recipe = Recipe(batch_size=7, val_fraction=0.25, augmentation=augmentation)
    root = "here" if name == "cifar10" else None
    made = load_data(name, recipe, root=root, seed=3, download=False, device="cpu")
    assert made is loaders
    expected = {
        "batch_size": 7,
        "val_fraction": 0.25,
        "augmentation": augmentation,
        "seed": 3,
        "device": torch.device("cpu"),
    }
    if name == "cifar10":
        expected |= {"root": "here", "download": False}
    assert given == expected


def _transfer_card(calls: list[int]) -> ModelCard:
    """Make a card of a small backbone that notes how many images go through its frozen part."""

    def build(num_classes: int) -> ImageClassifier:
        body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4))
        body.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
        backbone = nn.Sequential()
        backbone.add_module("body", body)
        backbone.add_module("flat", nn.Flatten())
        backbone.add_module("fc", nn.Linear(64, 3))
        return transfer_classifier(
            backbone, preprocess=Preprocess(), trainable=("fc",), head="fc", num_classes=num_classes
        )

    return ModelCard(
        name="tiny_transfer",
        family="transfer",
        summary="A transfer model for tests.",
        builder=build,
        recipe=Recipe(epochs=5, batch_size=8, lr=0.1, checks_per_epoch=2),
        paper="none",
    )


def test_frozen_layers_run_once_and_do_not_change(make_loaders: MakeLoaders) -> None:
    calls: list[int] = []
    card, loaders = _transfer_card(calls), make_loaders()
    done = train_quietly(card, data=loaders, seed=4)
    assert sum(calls) < 2 * (48 + 20 + 10), "an image went through the frozen part every epoch"
    assert not any(module.training for module in done.model.modules())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        start = card.builder(10)
    for name, tensor in start.state_dict().items():
        moved = not torch.equal(tensor, done.model.state_dict()[name])
        assert moved is name.startswith("network.fc.")
    whole = evaluate(done.model, loaders.test or [], device="cpu", precision="float32")
    assert done.test is not None
    assert whole.loss == pytest.approx(done.test.loss, rel=1e-5)
    assert done.train is not None
    assert done.train.n == 48


def test_views_of_a_transfer_model_are_of_images_not_of_features(make_loaders: MakeLoaders) -> None:
    loaders = make_loaders()
    done = train_quietly(_transfer_card([]), data=loaders, tta="flip")
    whole = evaluate(done.model, loaders.test or [], device="cpu", precision="float32", tta="flip")
    assert done.test is not None
    assert done.test_tta is not None
    assert done.test_tta.loss == pytest.approx(whole.loss, rel=1e-5)
    assert done.test_tta.loss != pytest.approx(done.test.loss, rel=1e-5)
    assert (done.test.tta, done.test_tta.tta) == ("none", "flip")


def test_memory_limit_decides_what_is_computed_again(make_loaders: MakeLoaders) -> None:
    calls: list[int] = []
    card = _transfer_card(calls)
    kept = train_quietly(card, data=make_loaders())
    few = sum(calls)
    again = train_quietly(card, data=make_loaders(), memory_limit_bytes=0)
    assert sum(calls) - few > 5 * 48
    assert kept.test is not None
    assert again.test is not None
    assert again.test.loss == pytest.approx(kept.test.loss, rel=1e-4)


def test_progress_bar_is_shown_unless_it_is_turned_off(
    card: ModelCard, make_loaders: MakeLoaders, capsys: pytest.CaptureFixture[str]
) -> None:
    train(card, data=make_loaders(), device="cpu")
    out, err = capsys.readouterr()
    assert (out, "12/12" in err) == ("", True)
    train(card, data=make_loaders(), device="cpu", progress=False)
    assert capsys.readouterr() == ("", "")


def test_torchs_own_loader_is_taken(card: ModelCard, make_loaders: MakeLoaders) -> None:
    ours = make_loaders()
    images, labels = (torch.cat(parts) for parts in zip(*ours.train, strict=True))
    train_loader = DataLoader(TensorDataset(images, labels), batch_size=8)
    run = train(card, data=Loaders(train_loader, ours.val, ours.test), device="cpu", progress=False)
    assert run.train is None  # it may be shuffled and augmented: not what is scored
    assert run.val is not None
    assert run.test is not None


def test_number_of_classes_is_that_of_the_named_data(card: ModelCard) -> None:
    with pytest.raises(OptionError, match="num_classes is 5, but 'shapes' has 10 classes"):
        train(card, data="shapes", num_classes=5)


def test_data_of_another_kind_is_named_and_not_printed() -> None:
    pair: Any = (torch.rand(4, 3, 32, 32), torch.arange(4))
    with pytest.raises(OptionError, match=r"data is a tuple; needed is one of cifar10, shapes, or"):
        train("report_baseline", data=pair)


def test_drawn_data_has_no_root(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="but the shapes are drawn, not read; leave it out"):
        train("report_baseline", data="shapes", root=tmp_path)


def test_teacher_of_the_recipe_is_built_with_its_weights(
    card: ModelCard, make_loaders: MakeLoaders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.safetensors"
    save_weights(build_model("report_baseline"), path)
    seen: list[nn.Module | None] = []

    def look(*args: Any, teacher: nn.Module | None = None, **options: Any) -> History:  # noqa: ANN401
        seen.append(teacher)
        return fit(*args, teacher=teacher, **options)

    monkeypatch.setattr(run, "fit", look)
    distillation = Distillation(teacher="report_baseline", weights=str(path))
    recipe = replace(card.recipe, epochs=1, distillation=distillation)
    train_quietly(card, data=make_loaders(), recipe=recipe)
    (teacher,) = seen
    assert teacher is not None
    assert _same(teacher, build_model("report_baseline", weights=path))
    train_quietly(card, data=make_loaders(), recipe=replace(recipe, distillation=None))
    assert seen[1] is None


@pytest.mark.parametrize(
    "needs",
    [
        {"distillation": Distillation(teacher="report_baseline")},
        {"mixing": Mixing()},
        {"selection": Selection()},
    ],
)
def test_features_of_a_transfer_model_are_neither_mixed_nor_taught(
    make_loaders: MakeLoaders, needs: dict[str, Any]
) -> None:
    card = replace(_transfer_card([]), recipe=Recipe(epochs=1, **needs))
    (name,) = needs
    with pytest.raises(OptionError, match=f"has {name}, for which images.*use {name}=None"):
        train_quietly(card, data=make_loaders())


def test_building_a_teacher_leaves_the_global_random_state(
    card: ModelCard, make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.safetensors"
    save_weights(build_model("report_baseline"), path)
    distillation = Distillation(teacher="report_baseline", weights=str(path))
    before = torch.get_rng_state()
    recipe = replace(card.recipe, epochs=1, distillation=distillation)
    train_quietly(card, data=make_loaders(), recipe=recipe)
    assert torch.equal(torch.get_rng_state(), before)


def test_recipe_by_its_tag(card: ModelCard, make_loaders: MakeLoaders) -> None:
    other = replace(card.recipe, epochs=1, lr=0.01)
    card = replace(card, more_recipes=(("other", other),))
    run = train_quietly(card, data=make_loaders(), recipe="other")
    assert run.card.recipe == other
    with pytest.raises(OptionError, match=r"unknown recipe .*'othr'; did you mean 'other'"):
        train_quietly(card, data=make_loaders(), recipe="othr")


def test_teacher_that_cannot_be_is_told_from_the_model(
    card: ModelCard, make_loaders: MakeLoaders
) -> None:
    distillation = Distillation(teacher="report_baseline", weights="default")
    recipe = replace(card.recipe, distillation=distillation)
    message = r"the teacher report_baseline cannot be built: .*classes"
    with pytest.raises(WeightsError, match=message):
        train_quietly(card, data=make_loaders(), recipe=recipe, num_classes=100)


def test_teacher_is_not_downloaded_either(
    card: ModelCard, make_loaders: MakeLoaders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    distillation = Distillation(teacher="resnet18_transfer", weights="imagenet")
    recipe = replace(card.recipe, distillation=distillation)
    with pytest.raises(CifarZooError, match="is not there, and is not to be downloaded"):
        train_quietly(card, data=make_loaders(), recipe=recipe, download=False)
    assert not list(tmp_path.iterdir())
