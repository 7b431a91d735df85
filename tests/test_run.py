"""`train` from end to end, and runs that are saved and loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo import errors
from cifarzoo.data import CIFAR100_CLASSES, CIFAR100_SUPERCLASSES
from cifarzoo.models.report import report_model
from cifarzoo.provenance import _commit
from cifarzoo.record import RunRecord
from cifarzoo.run import load_data, load_runs, provenance
from cifarzoo.training.callbacks import Callback

MakeLoaders = Callable[..., zoo.Loaders]

train_quietly = partial(zoo.train, device="cpu", precision="float32", progress=False)
score = partial(zoo.evaluate, device="cpu")


CARD = zoo.ModelCard(
    name="tiny",
    family="report",
    summary="A network for tests.",
    builder=partial(report_model, filters=(4, 8), kernel_size=3, hidden=(8,), dropout=0.1),
    recipes={
        "standard": zoo.Recipe(epochs=2, batch_size=8, checks_per_epoch=2),
        "other": zoo.Recipe(epochs=1, batch_size=8, lr=0.01),
    },
)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def without_time(record: zoo.Run) -> dict[str, Any]:
    """Return the fields of a run that do not depend on the clock."""
    found = json.loads(record.to_json())
    del found["provenance"], found["history"]["seconds"]
    for check in found["history"]["checks"]:
        del check["seconds"]
    return dict(found)


def test_model_is_built_trained_and_scored(make_loaders: MakeLoaders) -> None:
    augmentation = zoo.Augmentation(cutout=32)
    loaders = make_loaders(n_train=50, augmentation=augmentation)
    done = train_quietly(CARD, data=loaders)
    assert isinstance(done, RunRecord)
    assert (done.name, done.data, done.seed, done.limit) == ("tiny", "custom", 0, None)
    assert done.recipe == replace(CARD.recipe, augmentation=augmentation)
    assert done.params == done.trainable_params == sum(p.numel() for p in done.model.parameters())
    assert done.history.steps == 12
    assert not any(module.training for module in done.model.modules())
    # All 50 training images are scored, without drop_last and augmentation.
    plain = make_loaders(n_train=50).train.in_order()  # type: ignore[attr-defined]
    for found, data in ((done.train, plain), (done.val, loaders.val), (done.test, loaders.test)):
        expected = score(done.model, data or [])
        assert found is not None
        assert found.n == expected.n
        assert found.loss == pytest.approx(expected.loss)


def test_seed_determines_the_result(
    make_loaders: MakeLoaders,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    runs = []
    for seed, start in ((1, 10), (1, 11), (2, 10)):
        torch.manual_seed(start)
        with global_state_untouched():
            runs.append(train_quietly(CARD, data=make_loaders(), seed=seed))
    assert without_time(runs[0]) == without_time(runs[1])
    assert equal(runs[0].model, runs[1].model)
    assert not equal(runs[0].model, runs[2].model)


class Counted(list[tuple[Tensor, Tensor]]):
    """A list of batches that counts how often it is read."""

    reads = 0

    @override
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.reads += 1
        return super().__iter__()


def test_test_set_is_scored_once(make_loaders: MakeLoaders) -> None:
    made = make_loaders()
    data = zoo.Loaders(made.train, made.val, test := Counted(made.test or []))
    test.reads = 0
    train_quietly(CARD, data=data)
    assert test.reads == 1


def test_tta_only_adds_a_score(make_loaders: MakeLoaders) -> None:
    loaders = make_loaders()
    plain, done = (train_quietly(CARD, data=loaders, tta=tta) for tta in ("none", "flip"))
    assert plain.test_tta is None
    assert done.test_tta is not None
    assert done.test_tta.loss == score(done.model, loaders.test or [], tta="flip").loss
    assert without_time(done.replace(test_tta=None)) == without_time(plain)


def test_torch_loaders_are_accepted(make_loaders: MakeLoaders) -> None:
    images, labels = (torch.cat(parts) for parts in zip(*make_loaders().train, strict=True))
    loader = DataLoader(TensorDataset(images, labels), batch_size=8)
    done = train_quietly(CARD, data=zoo.Loaders(loader, test=loader), tta="flip")
    assert done.history.steps == 12
    # Such a loader may augment its images, so the training images are not scored.
    assert (done.train, done.val) == (None, None)
    assert done.test.n == len(images)
    assert train_quietly(CARD, data=zoo.Loaders(loader)).test is None


def test_a_score_that_fails_does_not_cost_the_run(make_loaders: MakeLoaders) -> None:
    loaders = make_loaders()
    images, labels = next(iter(loaders.train))
    broken = zoo.Loaders(loaders.train, loaders.val, [(images, labels + 10)])
    with pytest.raises(errors.ScoreError, match="labels") as caught:
        train_quietly(CARD, data=broken)
    run = caught.value.run
    assert run.test is None
    assert run.val is not None
    assert run.history.steps == len(loaders.train) * CARD.recipe.epochs
    assert zoo.evaluate(run.model, loaders.train, device="cpu").n == len(loaders.train) * 8


class Stop(Callback):
    @override
    def on_check(self, check: object) -> None:
        raise KeyboardInterrupt


def test_interrupted_run_resumes_to_the_same_result(
    make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    whole = train_quietly(CARD, data=make_loaders())
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train_quietly(CARD, data=make_loaders(), checkpoint=path, callbacks=[Stop()])
    resumed = train_quietly(CARD, data=make_loaders(), checkpoint=path)
    assert equal(whole.model, resumed.model)
    (part,) = resumed.earlier_parts
    assert resumed.provenance.machine in part
    assert {**without_time(resumed), "earlier_parts": []} == without_time(whole)


class Diverging(nn.Module):
    """Returns NaN from the fifth training step on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(3072, classes), 0

    @override
    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        logits: Tensor = self.layer(images.flatten(1))
        return logits * (float("nan") if self.training and self.steps >= 5 else 1)


def test_error_of_a_diverged_run_holds_its_best_state(make_loaders: MakeLoaders) -> None:
    made = make_loaders()
    network = replace(CARD, builder=lambda n: zoo.ImageClassifier(zoo.Preprocess(), Diverging(n)))
    with pytest.raises(errors.NonFiniteLossError) as caught:
        train_quietly(network, data=zoo.Loaders(list(made.train), made.val, made.test))
    error = caught.value
    assert error.model is not None
    assert error.history.best is not None
    found = score(error.model, made.val or []).loss
    assert found == pytest.approx(error.history.best.val_loss)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": "cifar-10"}, errors.InvalidValueError, "'cifar-10'"),
        ({"data": torch.rand(4, 3, 32, 32)}, zoo.CifarZooError, "data"),
        ({"recipe": "othr"}, errors.InvalidValueError, "did you mean 'other'"),
        ({"num_classes": 0}, errors.InvalidValueError, "num_classes"),
        ({"seed": "1"}, errors.InvalidTypeError, "seed is '1'"),
        ({"data": "shapes", "limit": 1}, errors.InvalidValueError, "limit is 1"),
        ({"limit": 20}, errors.InvalidValueError, "limit is 20"),
        ({"device": "gpu"}, errors.InvalidValueError, "gpu"),
        ({"precision": "half"}, errors.InvalidValueError, "half"),
        ({"tta": "flipp"}, errors.InvalidValueError, "did you mean 'flip'"),
    ],
)
def test_invalid_arguments_are_refused(
    loaders: zoo.Loaders, changes: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        zoo.train(CARD, **{"data": loaders, "progress": False, **changes})


def test_limit_selects_the_first_images() -> None:
    recipe = zoo.Recipe(batch_size=5, val_fraction=0.2, augmentation=zoo.Augmentation(cutout=4))
    few, more = (load_data("shapes", recipe, limit=n) for n in (50, 100))
    assert few.val is not None
    assert (few.train.n, few.val.n, few.test.n) == (40, 10, 50)
    assert (few.train.batch_size, few.train.augmentation) == (5, recipe.augmentation)
    assert torch.equal(few.test.images, more.test.images[:50])


@pytest.mark.data
def test_limit_of_cifar10(real_root: Path) -> None:
    whole, part = (load_data("cifar10", zoo.Recipe(), root=real_root, limit=n) for n in (None, 100))
    assert part.val is not None
    assert (whole.train.n, part.train.n, part.val.n, part.test.n) == (45_000, 90, 10, 100)
    assert torch.equal(part.test.images, whole.test.images[:100])


def test_number_of_classes_is_that_of_the_data(make_loaders: MakeLoaders, tmp_path: Path) -> None:
    own = make_loaders()
    for loader in (own.train, own.val, own.test):
        assert isinstance(loader, zoo.TensorLoader)
        loader.classes = CIFAR100_SUPERCLASSES
    assert isinstance(own.train, zoo.TensorLoader)
    dataset: Any = TensorDataset(own.train.images, own.train.labels)
    dataset.classes = [*CIFAR100_SUPERCLASSES]
    for data in (own, zoo.Loaders(DataLoader(dataset, batch_size=8))):
        done = train_quietly("tiny_s", data=data, recipe=zoo.Recipe(epochs=1, batch_size=8))
        done.save(tmp_path)
        for model in (
            zoo.Run.load(tmp_path).model,
            zoo.build_model("tiny_s", weights=tmp_path / "weights.safetensors"),
        ):
            assert model.class_names == CIFAR100_SUPERCLASSES
            assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 20)
    with pytest.raises(errors.InvalidValueError, match="has 10 classes and the data 20"):
        train_quietly("tiny_s", data=own, num_classes=10)
    with pytest.raises(errors.WeightsError, match=r"tiny_s-standard.* does not fit"):
        train_quietly("tiny_s", data=own, weights="default")


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*not in the published order")
def test_limit_of_cifar100(real_root100: Path) -> None:
    part = load_data("cifar100", zoo.Recipe(), root=real_root100, limit=100)
    assert part.val is not None
    assert (part.train.n, part.val.n, part.test.n) == (90, 10, 100)
    assert part.train.classes == part.test.classes == CIFAR100_CLASSES


def test_recipe_has_the_settings_of_own_loaders(make_loaders: MakeLoaders) -> None:
    def grey(images: Tensor) -> Tensor:
        return images // 2

    own = make_loaders(batch_size=16).train
    assert isinstance(own, zoo.TensorLoader)
    own.transform = grey
    recipe = replace(CARD.recipe, augmentation=zoo.Augmentation(flip="random"))
    done = train_quietly(CARD, data=zoo.Loaders(own), recipe=recipe)
    expected = replace(recipe, batch_size=16, augmentation=None, val_fraction=0.0)
    assert done.recipe == expected
    assert "grey" in done.note
    torch_loader = DataLoader(TensorDataset(own.images, own.labels), batch_size=24)
    done = train_quietly(CARD, data=zoo.Loaders(torch_loader), recipe=recipe)
    assert done.recipe == replace(expected, batch_size=24)


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """A file of random weights of report_baseline."""
    zoo.save_weights(zoo.build_model("report_baseline"), tmp_path / "start.safetensors")
    return tmp_path / "start.safetensors"


def label(path: Path) -> str:
    return f"{path.name} {sha256(path.read_bytes()).hexdigest()[:16]}"


def test_teacher_is_used_and_recorded(make_loaders: MakeLoaders, weights_file: Path) -> None:
    recipe = CARD.recipes["other"]
    teacher = zoo.Distillation(teacher="report_baseline", weights=str(weights_file))
    plain = train_quietly(CARD, data=make_loaders(), recipe="other")
    done = train_quietly(CARD, data=make_loaders(), recipe=replace(recipe, distillation=teacher))
    assert (plain.recipe, plain.teacher) == (recipe, None)
    assert done.teacher == f"report_baseline-{label(weights_file)}"
    assert not equal(done.model, plain.model)


def test_initial_weights_are_used_and_recorded(
    make_loaders: MakeLoaders, weights_file: Path
) -> None:
    options: dict[str, Any] = {"data": make_loaders(), "weights": weights_file}
    done = train_quietly("report_baseline", recipe=zoo.Recipe(epochs=1, lr=1e-30), **options)
    start = zoo.build_model("report_baseline", weights=weights_file)
    torch.testing.assert_close(dict(done.model.named_parameters()), dict(start.named_parameters()))
    assert done.initial_weights == label(weights_file)


def test_checkpoint_of_other_initial_weights_is_refused(
    make_loaders: MakeLoaders, weights_file: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"data": make_loaders(), "checkpoint": tmp_path / "run.pt"}
    with pytest.raises(KeyboardInterrupt):
        train_quietly("report_baseline", weights=weights_file, callbacks=[Stop()], **options)
    for weights in (None, "standard"):
        with pytest.raises(errors.CheckpointError, match="belongs to another run"):
            train_quietly("report_baseline", weights=weights, **options)


def trained_run(make_loaders: MakeLoaders, **options: Any) -> zoo.Run:  # noqa: ANN401
    recipe = zoo.Recipe(epochs=1, batch_size=8, **options.pop("recipe", {}))
    return train_quietly("tiny_s", data=make_loaders(), recipe=recipe, **options)


@pytest.mark.parametrize("num_classes", [10, 12])
def test_saving_and_loading_a_run_changes_nothing(
    make_loaders: MakeLoaders, tmp_path: Path, num_classes: int
) -> None:
    done = trained_run(make_loaders, tta="flip", num_classes=num_classes)
    saved = done.save(tmp_path / "new")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"run.json", "weights.safetensors"}
    loaded = zoo.Run.load(tmp_path / "new")
    assert loaded.to_json() == saved.to_json() == (tmp_path / "new" / "run.json").read_text()
    assert equal(loaded.model, done.model)
    digest = sha256((tmp_path / "new" / "weights.safetensors").read_bytes()).hexdigest()
    assert loaded.weights_sha256 == digest
    assert loaded.replace(weights_sha256=None).to_json() == done.to_json()


def test_weights_other_than_the_scored_ones_are_refused(
    make_loaders: MakeLoaders, tmp_path: Path
) -> None:
    trained_run(make_loaders).save(tmp_path)
    zoo.save_weights(zoo.build_model("tiny_s"), tmp_path / "weights.safetensors")
    loaded = zoo.Run.load(tmp_path)
    with pytest.raises(errors.WeightsError, match="SHA-256"):
        loaded.model  # noqa: B018
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(errors.WeightsError, match=r"weights\.safetensors"):
        loaded.model  # noqa: B018


@pytest.mark.parametrize("text", [None, "", "[1]", '{"name": "tiny_s"}'])
def test_damaged_record_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(errors.RunError, match=r"run\.json"):
        zoo.Run.load(tmp_path)


def test_loaded_runs_differ_only_in_their_seeds(make_loaders: MakeLoaders, tmp_path: Path) -> None:
    for seed in (2, 0, 10):
        done = trained_run(make_loaders, seed=seed)
        done.save(tmp_path / f"seed{seed}")
    runs = load_runs(tmp_path)
    assert [each.seed for each in runs] == [0, 2, 10]
    assert len(load_runs(tmp_path / "seed2")) == 1
    done.save(tmp_path / "again")
    with pytest.raises(errors.RunError, match="seed 10"):
        load_runs(tmp_path)
    trained_run(make_loaders, recipe={"lr": 0.1}).save(tmp_path / "again")
    with pytest.raises(errors.RunError, match=r"lr 0\.\d+, not 0\.\d+"):
        load_runs(tmp_path)
    with pytest.raises(errors.RunError, match=r"expected run\.json"):
        load_runs(tmp_path / "nowhere")


def test_provenance_names_code_and_machine() -> None:
    found = provenance("cpu", "float32")
    assert (found.device, found.precision) == ("cpu", "float32")
    assert found.threads == torch.get_num_threads()
    assert found.versions["torch"] in torch.__version__
    assert found.commit is None or len(found.commit) == 40


def test_provenance_without_git_and_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and macOS cannot tell which cores a process may use."""
    monkeypatch.setattr("cifarzoo.provenance._commit", _commit.__wrapped__)  # not cached
    monkeypatch.setenv("PATH", "")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = provenance("cpu", "float32")
    assert (found.commit, found.dirty) == (None, None)
    assert found.cores == os.cpu_count()


def transfer_card(calls: list[int]) -> zoo.ModelCard:
    """Return the card of a small transfer model that counts the images through its frozen part."""

    def build(num_classes: int) -> zoo.ImageClassifier:
        conv = nn.Conv2d(3, 4, 3, stride=8)
        conv.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
        backbone = nn.Sequential(conv, nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
        options: Any = {"trainable": ("3",), "head": "3", "num_classes": num_classes}
        return zoo.transfer_classifier(backbone, preprocess=zoo.Preprocess(), **options)

    recipe = zoo.Recipe(epochs=10, batch_size=8, lr=0.1, checks_per_epoch=2)
    return zoo.ModelCard(
        name="tiny_transfer", family="t", summary="", builder=build, recipes={"standard": recipe}
    )


def test_frozen_part_runs_once_per_image_and_does_not_change(make_loaders: MakeLoaders) -> None:
    calls: list[int] = []
    card, loaders = transfer_card(calls), make_loaders()
    done = train_quietly(card, data=loaders, seed=4, tta="flip")
    images = 48 + 20 + 10
    assert sum(calls) < 4 * images, "the frozen part ran in every epoch"
    assert done.trainable_params == 64 * 10 + 10 < done.params
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        start = card.builder(10)
    for name, tensor in start.state_dict().items():
        changed = not torch.equal(tensor, done.model.state_dict()[name])
        assert changed is name.startswith("network.3.")
    assert done.test is not None
    assert done.test.loss == score(done.model, loaders.test or []).loss


@pytest.mark.parametrize(
    "changes",
    [
        {"distillation": zoo.Distillation(teacher="report_baseline")},
        {"mixing": zoo.Mixing()},
        {"image_sizes": (24, 32)},
    ],
)
def test_transfer_model_refuses_what_changes_images(
    make_loaders: MakeLoaders, changes: dict[str, Any]
) -> None:
    recipe = zoo.Recipe(epochs=1, **changes)
    with pytest.raises(
        errors.InvalidValueError, match=f"has {next(iter(changes))}: transfer models"
    ):
        train_quietly(transfer_card([]), data=make_loaders(), recipe=recipe)
