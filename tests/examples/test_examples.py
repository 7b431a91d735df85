"""Every example runs, and prints the answers and figures of the report."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cifarzoo as zoo
from cifarzoo.errors import DataNotFoundError
from cifarzoo.record import read_record

EXAMPLES = Path(__file__).parents[2] / "examples"
FIGURES = {
    "task1_arithmetic": ["task1b.png"],
    "task2_baseline": ["task2a.png"],
    "task3_two_models": ["task3b.png"],
    "task3_ablation": ["task3c.png"],
    "task3_batch_norm": ["task3d.png"],
    "task3_best_model": ["task3e.png", "task3e_confusion.png", "task3f.png"],
    "task4_filters": ["task4b_filters.png", "task4c_activations.png"],
    "pictures": sorted(f"{n}-light.png" for n in zoo.viz.__all__ if n.startswith("plot_")),
}


def tiny_transfer(num_classes: int = 10) -> nn.Module:
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 7)
    )
    return zoo.transfer_classifier(
        backbone, preprocess=zoo.Preprocess(), trainable=("3",), head="3", num_classes=num_classes
    )


@pytest.mark.parametrize("name", FIGURES)
def test_quick_example_says_so_and_saves_described_figures(
    name: str, run_script: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script(name, "--quick", "--data", "shapes", "--out", tmp_path)
    assert capsys.readouterr().out.startswith("A trial run on few or artificial images")
    assert sorted(path.name for path in tmp_path.iterdir()) == FIGURES[name]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert len(picture.info["Description"]) > 20
            assert np.asarray(picture).std() > 10  # not blank


def test_quick_transfer(
    run_script: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiments = importlib.import_module("experiments").EXPERIMENTS
    found = experiments["resnet18_transfer"]
    card = replace(found.card, builder=tiny_transfer, initial_weights=None)
    monkeypatch.setitem(experiments, found.key, replace(found, card=card))
    run_script("task4_transfer", "--quick", "--data", "shapes", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["task4a_resnet18_transfer.png"]
    assert "9,010 of 9,122 parameters trained" in capsys.readouterr().out


# From the assignment: task 1 of the published solution and the report's task 1g.
ANSWERS = {
    "1a zeros": [[-2, 1, -11, 2, 13], [-10, 4, -8, -2, 18], [-14, 1, 5, -6, 9]],
    "1a mirrored": [[0, 4, -16, 2, 0], [0, 4, -8, -2, 0], [0, 4, 0, -6, 0]],
    "1c": "2",
    "1d": "9×9",
    "1e": "252×252",
    "1f": "250×250",
    "1g": "2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410",
}


def test_task1_has_the_exact_answers() -> None:
    task1 = importlib.import_module("task1_arithmetic")
    assert task1.answers() == ANSWERS
    differing = {part for part, said in task1.REPORTED.items() if said not in (None, ANSWERS[part])}
    assert differing == {"1a zeros"}  # the report misprints -11 as -1


# The report's table of settings, and its figures: training loss and accuracies, steps.
SETTINGS = {
    "baseline": ("sgd", 0.05, 64, 390_410),
    "model1": ("sgd", 0.05, 32, None),
    "model2": ("adam", 0.001, 64, None),
    "best": ("adam", 0.001, 64, None),
    "resnet18_transfer": ("adam", 0.0005, 32, 11_181_642),
}
REPORTED = {
    "baseline": (None, 0.8353, 0.7344, 0.7251, 5265),
    "model1": (0.4064, 0.8647, 0.7554, 0.7522, 6327),
    "model2": (0.3024, 0.8935, 0.7954, 0.7907, 7020),
    "best": (0.2189, 0.9242, 0.8148, 0.8117, 6669),
    "resnet18_transfer": (0.0739, 0.9754, 0.8988, 0.8872, 6327),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_experiments_have_the_reports_settings_and_figures(key: str) -> None:
    experiment = importlib.import_module("experiments").EXPERIMENTS[key]
    said = experiment.reported
    figures = (said.train_loss, said.train, said.val, said.test, said.steps)
    recipe = experiment.card.recipe
    optimizer, lr, batch_size, params = SETTINGS[key]
    assert figures == REPORTED[key]
    assert (recipe.optimizer, recipe.lr, recipe.batch_size) == (optimizer, lr, batch_size)
    assert (recipe.epochs, recipe.checks_per_epoch, recipe.momentum) == (10, 2, 0)
    assert (recipe.early_stopping, recipe.val_fraction) == (zoo.EarlyStopping(patience=4), 0.1)
    assert recipe.augmentation is None
    if params is not None:
        assert zoo.count_params(experiment.card.builder(10)) == params


def test_each_ablation_changes_one_thing() -> None:
    module = importlib.import_module("experiments")
    base = module.EXPERIMENTS["baseline"].card
    for experiment in module.ABLATION:
        network = str(experiment.card.builder(10)) != str(base.builder(10))
        batch_size = experiment.card.recipe.batch_size
        assert network != (batch_size != base.recipe.batch_size)
        assert replace(experiment.card.recipe, batch_size=64) == base.recipe


def test_ablation_shows_the_changes_that_help_most_on_the_validation_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("task3_ablation")
    val = {"dropout of 10 %": 0.8, "batches of 32": 0.7}  # the test split has another order

    def runs(experiment: object) -> list[SimpleNamespace]:
        title = experiment.title  # type: ignore[attr-defined]
        scores = {"val": val.get(title, 0.6), "test": 0.9 if title == "batch norm" else 0.5}
        provenance = SimpleNamespace(machine="a machine", source="a commit")
        splits = {name: SimpleNamespace(accuracy=score) for name, score in scores.items()}
        return [SimpleNamespace(history=title, provenance=provenance, **splits)]

    shown: dict[str, object] = {}
    monkeypatch.setattr(module, "accuracy", lambda run, split: getattr(run, split).accuracy)
    monkeypatch.setattr(zoo.viz, "plot_histories", lambda named, title: shown.update(named))
    module.ablation(SimpleNamespace(runs=runs, save=lambda *args: None))
    assert [*shown] == ["baseline", *val]


def test_filters_are_picked_by_a_clear_margin() -> None:
    module = importlib.import_module("task4_filters")
    parts = {  # of four filters: vertical, a tie, horizontal but less so, constant
        "vertical": torch.tensor([2.0, 6.23, 1.0, 0.0]),
        "horizontal": torch.tensor([1.0, 3.89, 1.5, 0.0]),
        "falling": torch.tensor([1.0, 6.24, 1.0, 0.0]),
    }
    assert module.most_selective(parts) == {0: "vertical", 2: "horizontal"}


def test_filters_are_those_of_the_first_and_the_last_convolution() -> None:
    network = zoo.build_model("resnet18_transfer").network
    convs = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    convs = [name for name in convs if "downsample" not in name]
    assert importlib.import_module("task4_filters").LAYERS["resnet18"] == (convs[0], convs[-1])


def test_more_dropout_is_the_only_change_to_the_best_model() -> None:
    module = importlib.import_module("experiments")
    more, best = module.MORE_DROPOUT, module.BEST
    assert str(more.builder(10)).replace("p=0.3", "p=0.1") == str(best.builder(10))
    assert more.recipe == best.recipe


def test_runs_are_recorded_and_read_again(
    run_script: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("task2_baseline", "--quick", "--data", "shapes", "--out", tmp_path / "figures")
    run_script(*command, "--results", tmp_path)
    first = capsys.readouterr().out
    record = read_record(tmp_path / "baseline-seed0.json")
    assert (record.name, record.recipe.epochs, record.data) == ("report_baseline", 1, "shapes")
    assert (record.seed, record.limit, record.history.images) == (0, 160, 128)  # two batches of 64
    monkeypatch.setattr(zoo, "train", lambda *args, **options: pytest.fail("trained again"))
    run_script(*command, "--results", tmp_path)
    assert capsys.readouterr().out == first
    with pytest.raises(SystemExit, match="another recipe or other data"):
        run_script(*command[:1], "--data", "shapes", "--results", tmp_path)


@pytest.mark.parametrize("name", ["task4_transfer", "task4_filters"])
def test_missing_weights_end_an_example_with_a_hint(
    name: str, run_script: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"none\.pth(.|\n)*--weights FILE"):
        run_script(name, "--weights", tmp_path / "none.pth", "--data", "shapes")


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (DataNotFoundError("looked in"), "looked in")]
)
def test_example_ends_without_a_traceback(
    error: BaseException,
    status: object,
    run_script: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(*args: object, **options: object) -> zoo.Run:
        raise error

    monkeypatch.setattr(zoo, "train", train)
    with pytest.raises(SystemExit) as caught:
        run_script("task2_baseline")
    assert caught.value.code == status


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv")
def test_several_processes_train_one_model() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc-per-node=2", str(EXAMPLES / "several_gpus.py"), "--data", "shapes"]
    done = subprocess.run(
        [*torchrun, *script, "--epochs", "1", "--batch-size", "1024"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"accuracy [\d.]+%", done.stdout)
