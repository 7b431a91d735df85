"""The leaderboard shows every model and every figure, ours and theirs apart."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cifarzoo import list_models, model_card
from cifarzoo.report.recording import record_key

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that writes the page."""
    return load_script("docs/leaderboard.py")


@pytest.fixture(scope="module")
def found(page: ModuleType) -> list[Any]:
    """Where every model stands."""
    standings: list[Any] = page.standings()
    return standings


def test_every_model_and_all_weights_stand_in_it(page: ModuleType, found: list[Any]) -> None:
    assert {each.card.name for each in found} == set(list_models())
    weights = [(each.card.name, each.weights.tag) for each in found if each.weights]
    packed = [(name, each.tag) for name in list_models() for each in model_card(name).weights]
    assert sorted(weights) == sorted(packed)
    text = page._leaderboard(found, ["resnet"])
    assert all(f"`{each.label}`" in text for each in found)
    assert all(f"| {each.single_view} |" in text for each in found)


def test_a_recipe_that_was_run_stands_in_it_also_without_weights(found: list[Any]) -> None:
    for each in found:
        assert each.records or not model_card(each.card.name).weights
        assert all(record.recipe == each.recipe for record in each.records)
    recipes = [(each.card.name, each.recipe) for each in found]
    assert len({(name, str(recipe)) for name, recipe in recipes}) == len(recipes)
    assert ("sprint_m", model_card("sprint_m").recipe) in recipes


def test_figures_of_others_are_marked_as_theirs(page: ModuleType, found: list[Any]) -> None:
    ours, theirs = page._leaderboard(found, ["resnet"]).split("## What others publish")
    for each in page.PUBLISHED:
        (row,) = (
            line
            for line in theirs.splitlines()
            if line.startswith(f"| {each.name} | {each.source} |")
        )
        assert f"{each.words} | {each.views} |" in row
        assert f"| {each.name} |" not in ours
    assert "| ResNet-18 | kuangliu | – | – | 93.02% to 95.50% | single view |" in theirs
    for size in ("parameters", "multiply-accumulates"):
        points = page._points(found, size)
        mine = {point.name for point in points if not point.source}
        assert mine == {each.label for each in found if each.accuracy}
        others = [point for point in points if point.source]
        assert {point.source for point in others} <= {each.source for each in page.PUBLISHED}
        known = [each for each in page.PUBLISHED if each.views == "single view"]
        sizes = [each.params if size == "parameters" else each.macs for each in known]
        assert len(others) == sum(each is not None for each in sizes)


def test_teachers_are_named_and_those_that_are_no_longer_there(
    page: ModuleType, found: list[Any]
) -> None:
    (taught,) = (each for each in found if each.label == "resnet20 (distilled)")
    text = page._family_page("ResNet", [taught])
    assert "| teacher | weights `long` of `sprint_m`, SHA-256 `559e0bf9" in text
    assert "`, which others have replaced since |" in text
    now = model_card("sprint_m").weights_for("long")
    assert now is not None
    assert page._teacher(f"sprint_m-long {now.sha256[:16]}").endswith("…`")


def test_runs_whose_weights_made_room_keep_their_rows(found: list[Any]) -> None:
    files = (ROOT / "results" / "zoo" / "without_weights").glob("*.json")
    kept = {path.stem.rpartition("-seed")[0] for path in files}
    keys = {record_key(each.card.name, each.tag): each for each in found}
    assert kept
    for key in kept:
        assert keys[key].weights is None
        assert [record.key for record in keys[key].records] == [key]


def test_a_lost_record_is_told_with_the_way_out(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    shutil.copytree(ROOT / "results" / "zoo", results / "zoo")
    (results / "zoo" / "tiny_m-seed0.json").unlink()
    (results / "sprint").mkdir()
    monkeypatch.setattr(sys.modules[page.standings.__module__], "RESULTS", results)
    with pytest.raises(ValueError, match=r"the runs of tiny_m, default, .* put their files back"):
        page.standings()
