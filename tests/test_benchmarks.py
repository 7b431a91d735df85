"""Every benchmark runs, and compares what it claims to compare."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import cifarzoo as zoo
from cifarzoo.record import read_record

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
RECIPES = ROOT / "results" / "recipes"
SCRIPTS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
)


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs a benchmark in this process."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(ROOT / "examples")

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(
    name: str, run_script: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(name, "--help")
    assert caught.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("loading", ()),
        ("throughput", ("--models", "report_baseline")),  # the others take minutes
    ],
)
def test_quick_measurement(
    name: str,
    options: tuple[str, ...],
    run_script: Callable[..., None],
    real_root: Path,
    tmp_path: Path,
) -> None:
    if name == "loading":
        pytest.importorskip("kornia")
    run_script(name, "--quick", "--data", real_root, "--out", tmp_path / "found.json", *options)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["processor"]
    assert found["source"]["versions"]["torch"]


def test_quick_loading_of_weights(run_script: Callable[..., None], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run_script("loading_weights", "--quick", "--models", "tiny_s", "--out", out)
    (found,) = json.loads(out.read_text())["models"].values()
    assert len(found["milliseconds"]) == 3


@pytest.mark.filterwarnings("ignore:TF32:UserWarning")  # by torch.backends.mkldnn.flags
def test_quick_convolutions(run_script: Callable[..., None], tmp_path: Path) -> None:
    run_script("convolutions", "--quick", "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["shapes"] == 20
    assert found["wrong"] == []
    assert 0 < found["largest_errors"]["weight gradient"] < found["tolerance"]


def test_quick_recipes_leave_the_test_set_alone(
    run_script: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--quick", "--data", "shapes", "--seeds", "0", "--out", tmp_path)
    run_script("recipes", "report_baseline", "--epochs", 1, "--recipes", "standard,sgd", *options)
    runs = [read_record(path) for path in sorted(tmp_path.glob("*.json"))]
    assert [run.recipe.optimizer for run in runs] == ["sgd", "sgd"]
    assert [run.recipe.schedule for run in runs] == ["cosine", "constant"]
    for run in runs:
        assert run.test is None
        assert run.val is not None
    assert "a is standard, b is sgd" in capsys.readouterr().out


def test_recorded_recipes_are_read_and_compared(
    run_script: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(zoo, "train", lambda *args, **options: pytest.fail("trained"))
    options = ("--quick", "--data", "shapes", "--seeds", "0,1", "--out", RECIPES)
    same = ("--epochs", 16, "--batch-size", 1000, "--recipes", "cutout,cutmix")
    run_script("recipes", "sprint_s", *same, *options)
    assert "+0.35 points" in capsys.readouterr().out  # as in docs/howto/own_recipe.md


def test_recipes_scale_in_proportion(run_script: Callable[..., None]) -> None:
    recipes = importlib.import_module("recipes")
    card = zoo.model_card("sprint_s")
    epochs, size = card.recipe.epochs, card.recipe.batch_size
    longer = recipes.make_recipe(card, "standard", 3 * epochs)
    (whitening,) = (group.epochs for group in card.recipe.groups if group.epochs)
    assert [group.epochs for group in longer.groups if group.epochs] == [3 * whitening]
    larger = recipes.make_recipe(card, "standard", epochs, 4 * size)
    assert larger.lr == pytest.approx(2 * card.recipe.lr)  # of Muon
    assert larger.groups[0].lr == pytest.approx(4 * (card.recipe.groups[0].lr or 0))  # of SGD
    back = recipes.with_batch_size(replace(larger, val_fraction=card.recipe.val_fraction), size)
    assert back == card.recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("resnet21", "--recipes", "standard,sgd"), "unknown model 'resnet21'"),
        (("resnet20", "--recipes", "standard,adam"), "unknown recipe 'adam'"),
        (("resnet20", "--recipes", "standard,standard"), "two or more different ones"),
        (("resnet20", "--recipes", "standard,sgd", "--seeds", "0,a"), "expected different numbers"),
    ],
)
def test_recipes_reject_bad_arguments(
    options: tuple[str, ...],
    message: str,
    run_script: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script("recipes", *options, "--epochs", "2")
    assert message in f"{caught.value} {capsys.readouterr().err}"
