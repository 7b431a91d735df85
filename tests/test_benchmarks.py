"""Every benchmark runs, and compares what it claims to compare."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

import cifarzoo as zoo
from cifarzoo.record import read_record

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
RECIPES = ROOT / "results" / "recipes" / "augmentation"
TWO = ("--variant", "standard", "--variant", "sgd")
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
@pytest.mark.filterwarnings("ignore")  # by torch.compile
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("loading", ()),
        ("gpu", ("--device", "cpu", "--models", "tiny_s")),
        ("export", ("--models", "tiny_s")),
        ("inference", ("--models", "tiny_s", "--threads", "1")),
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
    for module in {"loading": ["kornia"], "inference": ["openvino"]}.get(name, ()):
        pytest.importorskip(module)
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
    variants = ("--variant", "standard", "epochs=1", "--variant", "sgd", "epochs=1", "lr=x0.5")
    run_script("recipes", "report_baseline", *variants, *options)
    runs = [read_record(path) for path in sorted(tmp_path.glob("*.json"))]
    assert [run.recipe.optimizer for run in runs] == ["sgd", "sgd"]
    assert [run.recipe.schedule for run in runs] == ["cosine", "constant"]
    assert runs[0].recipe.lr == 0.1 / 2
    for run in runs:
        assert run.recipe.epochs == 1
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
    same = ("epochs=16", "image_sizes=()", "batch_size=1000", "augmentation.translate=4")
    cutout = ("--variant", "cutout", *same, "augmentation.cutout=12")
    cutmix = ("--variant", "cutmix", *same, "mixing.share=0.5")
    run_script("recipes", "sprint_s", *cutout, *cutmix, *options)
    assert "+0.35 points" in capsys.readouterr().out  # as in docs/howto/own_recipe.md


def test_recipes_scale_in_proportion(run_script: Callable[..., None]) -> None:
    recipes = importlib.import_module("recipes")
    card = zoo.model_card("sprint_s")
    epochs, size = card.recipe.epochs, card.recipe.batch_size
    longer = recipes.with_change(card.recipe, "epochs", str(3 * epochs))
    (whitening,) = (group.epochs for group in card.recipe.groups if group.epochs)
    assert [group.epochs for group in longer.groups if group.epochs] == [3 * whitening]
    larger = recipes.with_change(card.recipe, "batch_size", str(4 * size))
    assert larger.lr == pytest.approx(2 * card.recipe.lr)  # of Muon
    assert larger.groups[0].lr == pytest.approx(4 * (card.recipe.groups[0].lr or 0))  # of SGD
    assert recipes.with_batch_size(larger, size) == card.recipe


def test_variant_changes_recipe_and_network(run_script: Callable[..., None]) -> None:
    recipes = importlib.import_module("recipes")
    changes = ("image_sizes=24,32", "averaging.decay=None", "model.activation=ReLU")
    variant = recipes.make_variant(zoo.model_card("sprint_s"), "mine", changes)
    assert variant.card.recipe.image_sizes == (24, 32)
    assert variant.card.recipe.averaging == zoo.Averaging(decay=None)
    assert isinstance(variant.card.builder(10).network.act, nn.ReLU)
    assert variant.note == "model.activation=ReLU"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("resnet21", *TWO), "unknown model 'resnet21'"),
        (("resnet20", *TWO, "lr"), "'lr', expected FIELD=VALUE"),
        (("resnet20", *TWO, "rate=1"), "'rate'"),
        (("resnet20", *TWO[:2], *TWO[:2]), "expected different names"),
        (("resnet20", *TWO, "--seeds", "0,a"), "expected different numbers"),
    ],
)
def test_recipes_reject_bad_arguments(
    options: tuple[str, ...],
    message: str,
    run_script: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script("recipes", *options)
    assert message in f"{caught.value} {capsys.readouterr().err}"
