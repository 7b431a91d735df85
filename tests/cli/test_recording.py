"""`cifarzoo train --record`, `--seeds` and `--minutes`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import typer
from typer.testing import Result

from cifarzoo import (
    Loaders,
    OptionError,
    Recipe,
    ResultsError,
    Weights,
    build_model,
    model_card,
    registry,
)
from cifarzoo.cli import recording as recording_module
from cifarzoo.cli.deadline import NOT_FINISHED, stopping_after
from cifarzoo.models.report import Layout, report_model
from cifarzoo.report import recording as definition
from cifarzoo.report import zoo
from cifarzoo.report.folder import load_results
from cifarzoo.report.provenance import Source
from cifarzoo.weights import packaged

Call: TypeAlias = Callable[..., Result]

NAME = "report_baseline"
ON_CPU = ("--device", "cpu", "--precision", "float32")
TINY = Layout(filters=(4, 8), kernel_size=3, hidden=(8,))


@pytest.fixture
def checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_loaders: Callable[..., Loaders]
) -> Path:
    """A clean checkout of a zoo with one small model, and made-up data, all in a folder."""

    def load(data: str, recipe: Recipe, *, seed: int, **_: object) -> Loaders:
        return make_loaders(seed=seed, batch_size=recipe.batch_size)

    def build(num_classes: int) -> Any:  # noqa: ANN401 - as the card's builder
        return report_model(TINY, num_classes)

    recipe = Recipe(epochs=2, batch_size=8)
    card = replace(
        model_card(NAME),
        builder=build,
        recipe=recipe,
        more_recipes=(("longer", replace(recipe, epochs=3)),),
        weights=(),
    )
    monkeypatch.setattr(registry, "_cards", lambda: {NAME: card})
    monkeypatch.setattr(zoo, "load_data", load)
    source = Source(commit="0" * 40, dirty=False, versions={})
    for module in (zoo, definition):
        monkeypatch.setattr(module, "this_source", lambda: source)
    monkeypatch.setattr(packaged, "_FOLDER", tmp_path / "weights")
    monkeypatch.setattr(recording_module, "results_folder", lambda: tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    return tmp_path


def test_seeds_become_weights_of_the_package(call: Call, checkout: Path) -> None:
    options = ("train", NAME, "--seeds", "0,1,2", "--record", *ON_CPU)
    result = call(*options)
    assert result.exit_code == 0, result.stderr
    assert "seed 2 begins" in result.stderr
    assert f"Commit it with its {NAME}-default.json and with" in result.stderr
    (weights,) = model_card(NAME).weights
    assert f"{NAME}: {weights.measured}, seed {weights.seed} is kept" in result.stdout
    assert weights.views is not None
    records = load_results(checkout / "results").records
    assert [(record.key, record.seed) for record in records] == [(NAME, i) for i in range(3)]
    files = {path.name for path in (checkout / "weights").iterdir()}
    assert files == {f"{NAME}-default.safetensors", f"{NAME}-default.json"}
    work = checkout / "runs" / "record" / f"{NAME}-default"
    assert {path.name for path in work.iterdir()} == {f"seed{i}.safetensors" for i in range(3)}
    build_model(NAME, weights="default")
    before = (checkout / "weights" / f"{NAME}-default.json").read_text()
    again = call(*options)
    assert "seed 1 is recorded already" in again.stderr
    assert again.stdout == result.stdout
    assert (checkout / "weights" / f"{NAME}-default.json").read_text() == before


def test_views_are_scored_unless_they_are_not_wanted(call: Call, checkout: Path) -> None:
    options = ("train", NAME, "--record", "--quiet", *ON_CPU)
    assert call(*options, "--tta", "none").exit_code == 0
    (record,) = load_results(checkout / "results").records
    assert record.test_tta is None
    assert call(*options).exit_code == 0
    (record,) = load_results(checkout / "results").records
    assert record.test_tta is not None
    assert record.test_tta.tta == "flip_translate"
    (weights,) = model_card(NAME).weights
    assert weights.views == record.test_tta.accuracy


def test_what_is_in_the_way_of_the_weights_is_told_before_anything_is_trained(
    call: Call, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("train", NAME, "--record", "--quiet", *ON_CPU)
    assert call(*options, "--seed", "0").exit_code == 0
    path = checkout / "results" / f"{NAME}-seed0.json"
    content = json.loads(path.read_text())
    monkeypatch.setattr(zoo, "fit_card", lambda *_, **__: pytest.fail("it trained"))
    content["recipe"]["lr"] = 0.5
    path.write_text(json.dumps(content))
    result = call(*options, "--seed", "1")
    assert result.exit_code == 1
    assert "is of another run (recipe.lr: 0.5 in the file" in result.stderr
    path.write_text("{")
    result = call(*options, "--seed", "1")
    assert result.exit_code == 1
    assert f"{path.name} cannot be read as a result" in result.stderr


@pytest.mark.parametrize(("limit", "fits"), [(2000, False), (45_000_000, True)])
def test_weights_that_will_not_fit_are_told_before_anything_is_trained(
    call: Call, checkout: Path, monkeypatch: pytest.MonkeyPatch, *, limit: int, fits: bool
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise ResultsError("the training begins")

    monkeypatch.setattr(zoo, "fit_card", stop)
    monkeypatch.setattr(recording_module, "LIMIT_BYTES", limit)
    (checkout / "weights" / "other-default.safetensors").write_bytes(b"." * 1900)
    (checkout / "weights" / f"{NAME}-default.safetensors").write_bytes(b"." * 9000)  # replaced
    result = call("train", NAME, "--record", *ON_CPU)
    before, begun, _ = result.stderr.partition("the training begins")
    said = " ".join(before.split())
    assert begun
    assert ("The package may hold 2 kB of weights" in said) is not fits
    assert ("move its records to results/zoo/without_weights" in said) is not fits


def test_other_recipe_needs_a_tag(call: Call, checkout: Path) -> None:
    options = ("train", NAME, "--record", "--quiet", "--epochs", "1", *ON_CPU)
    for tag in ((), ("--tag", "default")):
        result = call(*options, *tag)
        assert result.exit_code == 1
        assert "the tag 'default' is for the card's own recipe" in result.stderr
    result = call(*options, "--tag", "short", "--out", checkout / "elsewhere")
    assert result.exit_code == 0, result.stderr
    assert not result.stderr
    assert (checkout / "elsewhere" / "seed0.safetensors").is_file()
    (record,) = load_results(checkout / "results").records
    assert (record.key, record.recipe.epochs) == (f"{NAME}_short", 1)
    assert json.loads((checkout / "weights" / f"{NAME}-short.json").read_text())["tag"] == "short"


def test_a_tag_stands_for_the_cards_recipe(call: Call, checkout: Path) -> None:
    options = ("train", NAME, "--tag", "longer", "--quiet", *ON_CPU)
    result = call(*options, "--record")
    assert result.exit_code == 0, result.stderr
    (weights,) = model_card(NAME).weights
    assert (weights.tag, weights.recipe) == ("longer", model_card(NAME).recipe_for("longer"))
    (record,) = load_results(checkout / "results").records
    assert (record.key, record.recipe.epochs) == (f"{NAME}_longer", 3)
    changed = call(*options, "--record", "--epochs", "1", "--out", checkout / "elsewhere")
    assert changed.exit_code == 1
    assert "the tag 'longer' is for the card's own recipe" in changed.stderr


def test_a_tag_without_recording(call: Call, checkout: Path) -> None:
    options = ("train", NAME, "--data", "shapes", "--limit", "60", *ON_CPU)
    result = call(*options, "--tag", "longer", "--batch-size", "20")
    assert result.exit_code == 0, result.stderr
    folder = checkout / "runs" / f"{NAME}_longer-shapes-seed0"
    recipe = json.loads((folder / "run.json").read_text())["settings"]["recipe"]
    assert (recipe["epochs"], recipe["batch_size"]) == (3, 20)
    shown = call("info", NAME)
    assert "Another recipe, --tag longer: SGD" in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--record", "--data", "shapes"), "--record does not go with --data shapes"),
        (("--record", "--limit", "9", "--fresh"), "does not go with --limit, --fresh"),
        (("--record", "--weights", "a.safetensors"), "does not go with --weights"),
        (("--record", "--tag", "../x", "--epochs", "1"), "tag is '../x'"),
        (("--record", "--tta", "flip"), "tta is 'flip'"),
        (("--tag", "a"), "--tag is 'a', and report_baseline has no recipe of that name"),
        (("--tag", "longr", "--record"), "allowed: default, longer. A name of your own goes with"),
        (("--seeds", "1", "--seed", "2"), "--seed and --seeds"),
        (("--seeds", "0,1", "--checkpoint", "c.pt"), "--checkpoint is one run's"),
        (("--minutes", "0"), "minutes is 0.0; allowed: a positive number"),
        (("--minutes", "1e9"), "minutes is 1000000000.0; allowed: up to"),
    ],
)
def test_bad_options_are_named(
    call: Call, checkout: Path, options: tuple[str, ...], message: str
) -> None:
    result = call("train", NAME, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert {path.name for path in checkout.iterdir()} == {"weights"}


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("0,x", "needed are whole numbers"),
        ("0,,1", "needed are whole numbers"),
        ("0,-1", "needed are whole numbers"),
        (f"0,{5000 * '1'}", "needed are whole numbers"),
        ("1,1", "needed is each seed once"),
        (f"0,{2**63}", "below 9223372036854775808"),
    ],
)
def test_seeds_that_cannot_be_are_wrong_usage(call: Call, seeds: str, message: str) -> None:
    result = call("train", NAME, "--seeds", seeds)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_changed_checkout_is_refused(
    call: Call, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(commit="0" * 40, dirty=True, versions={})
    monkeypatch.setattr(definition, "this_source", lambda: source)
    result = call("train", NAME, "--record")
    assert result.exit_code == 1
    assert "commit the changes first" in result.stderr
    assert not (checkout / "runs").exists()


@pytest.mark.parametrize("what", ["weights", "records"])
def test_folders_that_cannot_be_written_are_told_before_anything_is_trained(
    call: Call, checkout: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    locked = packaged.packaged_folder() if what == "weights" else definition.results_folder()
    while not locked.exists():
        locked = locked.parent
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    result = call("train", NAME, "--record")
    assert result.exit_code == 1
    assert f"{locked}, where {what} go, cannot be written" in result.stderr.replace("\n", " ")
    assert not (checkout / "runs").exists()


def test_recording_stops_in_time_and_goes_on_to_the_same_weights(
    call: Call, checkout: Path
) -> None:
    recipe = ("--tag", "long", "--epochs", "40")
    options = ("train", NAME, "--seeds", "0,1", "--record", *recipe, *ON_CPU, "--quiet")
    assert call(*options).exit_code == 0
    whole = (checkout / "weights" / f"{NAME}-long.safetensors").read_bytes()
    seconds = [record.history.seconds for record in load_results(checkout / "results").records]
    for folder in ("runs", "results", "weights"):
        shutil.rmtree(checkout / folder)
    (checkout / "weights").mkdir()
    result, stops = call(*options, "--minutes", str(0.4 * seconds[0] / 60)), 0
    while result.exit_code == NOT_FINISHED:
        assert "not finished; the same command goes on (--minutes has to" in result.stderr
        assert not list((checkout / "weights").iterdir())
        stops += 1
        result = call(*options, "--minutes", str(max(0.5, 2 * sum(seconds)) / 60))
        assert stops < 20
    assert result.exit_code == 0, result.stderr
    assert stops
    assert (checkout / "weights" / f"{NAME}-long.safetensors").read_bytes() == whole


@pytest.mark.parametrize("seeds", [(3, 4), (5,)])
def test_each_seed_has_a_folder(
    call: Call, tiny: tuple[str, ...], tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    listed = ",".join(map(str, seeds))
    result = call("train", NAME, *tiny, "--seeds", listed, "--out", tmp_path, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"seed{seed}" for seed in seeds}
    for seed in seeds:
        record = json.loads((tmp_path / f"seed{seed}" / "run.json").read_text())
        assert record["settings"]["seed"] == seed


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_deadline_interrupts_also_where_ctrl_c_is_ignored(handler: Any) -> None:  # noqa: ANN401
    began = time.monotonic()

    def wait() -> None:
        while time.monotonic() < began + 20:
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(typer.Exit) as caught, stopping_after(0.05 / 60):
            wait()
        assert caught.value.exit_code == NOT_FINISHED
        assert time.monotonic() < began + 10
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_deadline_that_is_not_reached_changes_nothing() -> None:
    with stopping_after(5), pytest.raises(KeyboardInterrupt):
        raise KeyboardInterrupt
    with stopping_after(None):
        pass
    with pytest.raises(typer.Exit) as caught, stopping_after(5):
        raise typer.Exit(130)
    assert caught.value.exit_code == 130
    with pytest.raises(OptionError, match="minutes is nan"), stopping_after(float("nan")):
        pass


def test_evaluate_gives_the_cards_accuracy(
    call: Call,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_loaders: Callable[..., Loaders],
) -> None:
    assert call("train", NAME, "--record", "--quiet", *ON_CPU).exit_code == 0
    monkeypatch.setattr("cifarzoo.run.load_data", lambda *_, **__: make_loaders())
    result = call("evaluate", NAME, "--json", *ON_CPU)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    weights: Weights = model_card(NAME).weights[0]
    assert (found["accuracy"], tuple(found["interval"])) == (weights.accuracy, weights.interval)
    shown = call("info", NAME).stdout
    assert f"{100 * weights.accuracy:.2f} %" in shown
    assert "cpu, float32" in shown
