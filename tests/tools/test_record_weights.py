"""Weights are scored as they load from their file, and those of the median run are shipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch

import cifarzoo as zoo
from cifarzoo.data import CLASS_NAMES
from cifarzoo.errors import RunError, WeightsError
from cifarzoo.weights import packaged_file, packaged_weights, read_metadata, read_state_dict

Recording: TypeAlias = Any  # the class in the script

NAME = "report_baseline"


@pytest.fixture
def tool(
    load_script: Callable[[str], ModuleType],
    make_loaders: Callable[..., zoo.Loaders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ModuleType:
    """The script, with synthetic data and an empty folder of packaged weights."""
    module = load_script("tools/record_weights.py")
    monkeypatch.setattr("cifarzoo.weights.PRETRAINED", tmp_path / "pretrained")

    def load_data(data: str, recipe: zoo.Recipe, *, seed: int) -> zoo.Loaders:
        loaders = make_loaders(batch_size=recipe.batch_size, seed=seed)
        for loader in (loaders.train, loaders.val, loaders.test):
            assert isinstance(loader, zoo.TensorLoader)
            loader.classes = CLASS_NAMES[data]
        return loaders

    monkeypatch.setattr(module, "load_data", load_data)
    return module


@pytest.fixture
def recording(tool: ModuleType, recipe: zoo.Recipe, tmp_path: Path) -> Recording:
    card = replace(zoo.model_card(NAME), recipes={"standard": recipe})
    return tool.Recording(card=card, tag="standard", work=tmp_path / "work", device="cpu")


def test_scores_are_those_of_the_rounded_file(recording: Recording, loaders: zoo.Loaders) -> None:
    run = recording.record(0)
    path = recording.work / "seed0.safetensors"
    dtypes = {name: tensor.dtype for name, tensor in read_state_dict(path).items()}
    assert torch.float16 in dtypes.values()
    assert read_metadata(path) == {"model": NAME, "data": "cifar10", "tag": "standard"}
    model = zoo.build_model(NAME, weights=path)
    assert loaders.test is not None
    found = zoo.evaluate(model, loaders.test)
    assert (run.test.accuracy, run.test.loss) == (found.accuracy, pytest.approx(found.loss))
    assert (run.data, run.test_tta.tta) == ("cifar10", "flip_translate")
    assert [*recording.recorded()] == [0]


def test_rounding_that_changes_the_accuracy_is_undone(
    recording: Recording, tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "ROUNDING_TOLERANCE", -1.0)
    recording.record(0)
    state = read_state_dict(recording.work / "seed0.safetensors")
    assert torch.float16 not in {tensor.dtype for tensor in state.values()}


def test_interrupted_scoring_does_not_train_again(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recording.record(0)
    (recording.work / "seed0.json").unlink()
    monkeypatch.delattr(zoo, "train")
    again = recording.record(0)
    assert again.weights_sha256 == first.weights_sha256
    assert again.history == first.history


def test_median_run_is_shipped_with_all_records(recording: Recording) -> None:
    runs = {seed: recording.record(seed) for seed in (0, 1, 2)}
    shipped = recording.ship()
    ordered = sorted(runs.values(), key=lambda run: (run.test.accuracy, run.seed))
    assert shipped.sha256 == ordered[1].weights_sha256
    (found,) = packaged_weights(NAME)
    assert (found.sha256, found.seeds) == (shipped.sha256, (0, 1, 2))
    zoo.build_model(NAME, weights="default")
    shutil.rmtree(recording.work)  # the package holds all that a second call needs
    assert recording.ship().sha256 == shipped.sha256


def test_missing_median_weights_are_an_error(recording: Recording) -> None:
    recording.record(0)
    (recording.work / "seed0.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"seed0\.safetensors is missing"):
        recording.ship()
    assert not packaged_file(NAME, "standard").exists()


def test_runs_by_another_recipe_are_refused(recording: Recording, recipe: zoo.Recipe) -> None:
    recording.record(0)
    card = replace(recording.card, recipes={"standard": replace(recipe, lr=0.1)})
    with pytest.raises(RunError, match="another recipe"):
        replace(recording, card=card).recorded()


def test_weights_for_cifar100_are_recorded_with_their_data_set(recording: Recording) -> None:
    recipes = {"standard": recording.recipe, "cifar100": recording.recipe}
    card = replace(recording.card, recipes=recipes)
    work = recording.work / "cifar100"
    hundred = replace(recording, card=card, tag="cifar100", data="cifar100", work=work)
    hundred.record(0)
    shipped = hundred.ship()
    assert (shipped.tag, shipped.data) == ("cifar100", "cifar100")
    assert "on cifar100 (seed 0)" in str(shipped)
    model = zoo.build_model(NAME, weights="cifar100")
    assert model.class_names == CLASS_NAMES["cifar100"]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
    with pytest.raises(WeightsError, match="Try num_classes=100"):
        zoo.build_model(NAME, weights="cifar100", num_classes=10)
    with pytest.raises(WeightsError, match=r"a tag of report_baseline \(cifar100\)"):
        zoo.build_model(NAME, weights="default")  # means the best for CIFAR-10
    recording.record(0)
    recording.ship()
    assert zoo.build_model(NAME, weights="default").class_names == CLASS_NAMES["cifar10"]
    with pytest.raises(RunError, match="on other data than cifar10"):
        replace(hundred, data="cifar10").recorded()


@pytest.mark.parametrize(("commit", "dirty"), [(None, None), ("da19027", True)])
def test_checkout_must_be_clean(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, commit: str | None, dirty: bool | None
) -> None:
    source = SimpleNamespace(commit=commit, dirty=dirty)
    monkeypatch.setattr(tool, "provenance", lambda: source)
    with pytest.raises(SystemExit, match="git checkout"):
        tool.main([NAME])


def test_command_line_records_every_seed(
    tool: ModuleType, recording: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = SimpleNamespace(commit="da19027", dirty=False)
    monkeypatch.setattr(tool, "provenance", lambda: source)
    monkeypatch.setattr(zoo, "model_card", lambda _: recording.card)
    monkeypatch.chdir(tmp_path)
    tool.main([NAME, "--seeds", "0,1", "--device", "cpu"])
    assert packaged_weights(NAME)[0].seeds == (0, 1)
