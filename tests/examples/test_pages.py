from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

import cifarzoo as zoo

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = zoo.Layout(filters=(4, 8), kernel_size=3, convs_per_block=2, hidden=(8,))
PICTURES = sorted(
    f"{name}-{theme}.png"
    for name in zoo.viz.__all__
    if name.startswith("plot_")
    for theme in ("dark", "light")
)
# The page, how many things it trains, its seeds, and its pictures.
PAGES = [
    ("task2_baseline", 1, (0,), ["task2a.png"]),
    ("task3_two_models", 2, (0,), ["task3b.png"]),
    ("task3_batch_norm", 2, (0, 1, 2), ["task3d.png"]),
    ("task3_ablation", 9, (0, 1, 2), ["task3c.png"]),
    ("task3_best_model", 1, (0,), ["task3e.png", "task3e_confusion.png", "task3f.png"]),
    ("task4_transfer", 1, (0,), ["task4a_resnet18_transfer.png"]),
    ("pictures", 2, (0, 1), PICTURES),
]


@dataclass(frozen=True)
class Asked:
    """One call of `zoo.train`."""

    card: zoo.ModelCard
    data: object
    root: object
    epochs: int
    seed: int
    weights: str | None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, make_loaders: Callable[..., zoo.Loaders]) -> list[Asked]:
    """What the pages ask to be trained; a tiny network is trained in its place."""
    calls: list[Asked] = []
    train = zoo.train

    def tiny(
        card: zoo.ModelCard,
        *,
        data: str,
        root: object,
        recipe: zoo.Recipe,
        weights: str | None,
        seed: int,
    ) -> zoo.Run:
        calls.append(Asked(card, data, root, recipe.epochs, seed, weights))
        with torch.device("meta"):
            card.builder(10)
        return train(
            replace(card, builder=partial(zoo.report_model, TINY), initial_weights=None),
            data=make_loaders(seed=seed),
            recipe=replace(recipe, epochs=1),
            seed=seed,
            device="cpu",
            progress=False,
        )

    monkeypatch.setattr(zoo, "train", tiny)
    return calls


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Run a page as a script."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(page: str, *arguments: str) -> None:
        monkeypatch.delitem(sys.modules, "_arguments", raising=False)
        monkeypatch.setattr(sys, "argv", [page, "--out", str(tmp_path), *arguments])
        runpy.run_path(str(EXAMPLES / f"{page}.py"), run_name="__main__")

    return run


@pytest.mark.parametrize(("page", "things", "seeds", "pictures"), PAGES)
def test_quick_page_trains_one_epoch_of_one_seed(
    asked: list[Asked],
    turn: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    page: str,
    things: int,
    seeds: tuple[int, ...],
    pictures: list[str],
) -> None:
    turn(page, "--quick", "--data", "shapes")
    assert len(asked) == things
    assert {(call.root, call.epochs, call.seed) for call in asked} == {(None, 1, 0)}
    for call in asked:
        assert isinstance(call.data, zoo.Loaders)
        for part in (call.data.train, call.data.val, call.data.test):
            assert isinstance(part, zoo.TensorLoader)
            assert part.n == 640
            assert part.classes is not None
            assert "star" in part.classes
    assert sorted(path.name for path in tmp_path.iterdir()) == pictures
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert len(picture.info["Description"]) > 20
    printed = capsys.readouterr().out
    assert printed.startswith("A trial run (one epoch over a few images, the built-in shapes)")


def test_arithmetic_prints_the_exact_answers_and_draws_the_measurement(
    turn: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turn("task1_arithmetic", "--quick", "--data", "shapes")
    printed = capsys.readouterr().out
    assert " ".join(map(str, [-2, 1, -11, 2, 13])) in " ".join(printed.replace(".", "").split())
    assert "kernel (9, 9)" in printed
    assert "2,432 + 51,264 + 204,928 + 131,136 + 650 = 390,410" in printed
    assert "random weights" in printed
    assert "after an epoch" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["task1b.png"]


def test_filters_are_drawn_for_any_image(
    turn: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "grey.png"
    Image.new("L", (90, 60), 128).save(photo)
    turn("task4_filters", "--quick", "--image", str(photo))
    assert "RANDOM weights, nothing learnt" in capsys.readouterr().out
    drawn = sorted(path.name for path in tmp_path.iterdir() if path != photo)
    assert drawn == ["task4b_filters.png", "task4c_activations.png"]


def test_weights_are_passed_on(asked: list[Asked], turn: Callable[..., None]) -> None:
    turn("task4_transfer", "--weights", "resnet18.pth")
    assert [(call.weights, call.epochs) for call in asked] == [("resnet18.pth", 10)]


@pytest.mark.parametrize("page", ["task4_transfer", "task4_filters"])
def test_missing_weights_end_the_page_with_a_way_out(
    turn: Callable[..., None], tmp_path: Path, page: str
) -> None:
    missing = str(tmp_path / "none.pth")
    with pytest.raises(SystemExit, match=r"none\.pth(.|\n)*--weights FILE"):
        turn(page, "--weights", missing, "--data", "shapes")


def test_ctrl_c_ends_the_page_without_a_traceback(
    turn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(card: zoo.ModelCard, **options: object) -> zoo.Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "train", train)
    with pytest.raises(SystemExit) as caught:
        turn("task2_baseline")
    assert caught.value.code == 130


@pytest.mark.parametrize("page", ["task2_baseline", "task3_batch_norm"])
def test_whole_page_trains_the_report_s_recipe(
    asked: list[Asked],
    turn: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    page: str,
) -> None:
    turn(page)
    seeds = next(seeds for name, _, seeds, _ in PAGES if name == page)
    assert tuple(dict.fromkeys(call.seed for call in asked)) == seeds
    assert {(call.data, call.root, call.epochs) for call in asked} == {("cifar10", None, 10)}
    assert "trial run" not in capsys.readouterr().out


def test_folder_and_seeds_are_passed_on(
    asked: list[Asked], turn: Callable[..., None], tmp_path: Path
) -> None:
    turn("task2_baseline", "--data", str(tmp_path), "--seeds", "3,1")
    assert [(call.root, call.seed) for call in asked] == [(tmp_path, 3), (tmp_path, 1)]


@pytest.mark.parametrize("seeds", ["one", "0,0", "-1", ""])
def test_wrong_seeds_are_wrong_usage(turn: Callable[..., None], seeds: str) -> None:
    with pytest.raises(SystemExit) as caught:
        turn("task2_baseline", f"--seeds={seeds}")
    assert caught.value.code == 2


def test_error_that_says_what_to_do_ends_the_page(
    turn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(card: zoo.ModelCard, **options: object) -> zoo.Run:
        raise zoo.DataNotFoundError("looked in three places")

    monkeypatch.setattr(zoo, "train", train)
    with pytest.raises(SystemExit, match="looked in three places"):
        turn("task2_baseline")


def test_several_processes_train_one_model() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = ["--nproc-per-node=2", str(EXAMPLES / "several_gpus.py"), "--data", "shapes"]
    done = subprocess.run(
        [*torchrun, *options, "--epochs", "1", "--batch-size", "1024"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"accuracy [\d.]+% .*, 4000 images\), loss [\d.]+\n", done.stdout)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_page_is_short_and_uses_the_public_names_only(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    prose = tree.body[0].end_lineno or 0
    code = [line.strip() for line in source.splitlines()[prose:]]
    assert len([line for line in code if line and not line.startswith("#")]) < 80
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("cifarzoo")
        elif isinstance(node, ast.Import):
            assert not [alias for alias in node.names if alias.name.startswith("cifarzoo.")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "zoo":
            assert node.attr in zoo.__all__
