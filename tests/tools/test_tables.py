"""The tables in the pages agree with the records."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import cifarzoo as zoo
from cifarzoo.evaluation.statistics import accuracy_interval
from cifarzoo.record import read_record
from cifarzoo.weights import PRETRAINED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/tables.py")


@pytest.fixture(scope="module")
def found(tables: ModuleType) -> list[Any]:
    return list(tables.standings())


def score(accuracy: float) -> SimpleNamespace:
    correct = round(accuracy * 10_000)
    return SimpleNamespace(accuracy=accuracy, interval=accuracy_interval(correct, 10_000))


def test_pages_are_up_to_date(tables: ModuleType) -> None:
    tables.main(["--check"])


def test_every_table_is_in_a_page(tables: ModuleType) -> None:
    pages = (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert all(f"<!-- {name} -->" in text for name in tables.TABLES)


def test_only_text_between_markers_changes(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TABLES", {"models": lambda: "new\n"})
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "draw_curves", lambda _: None)
    page = "a <!-- other -->\n<!-- models -->\n{}<!-- /models -->\nb"
    (tmp_path / "README.md").write_text(page.format("old\n"))
    with pytest.raises(SystemExit, match=r"README\.md is out of date"):
        tables.main(["--check"])
    tables.main([])
    assert (tmp_path / "README.md").read_text() == page.format("new\n")
    tables.main(["--check"])


def test_accuracy_is_the_mean_over_the_seeds_or_an_interval(tables: ModuleType) -> None:
    values = (0.91, 0.92, 0.94)
    mean, std = 100 * statistics.fmean(values), 100 * statistics.stdev(values)
    several = tables.measured([score(each) for each in values])
    assert several.replace("\N{NO-BREAK SPACE}", " ") == f"{mean:.2f}% ± {std:.2f}"
    one = tables.measured([score(0.91)]).replace("\N{NO-BREAK SPACE}", " ")
    assert one == "91.00% (90.42 to 91.55)"
    assert tables.measured([score(0.91), None]) == tables.measured([]) == "–"


def test_minutes_leave_out_disturbances(tables: ModuleType) -> None:
    def run(seconds: list[float]) -> SimpleNamespace:
        checks = [SimpleNamespace(epoch=i, seconds=s) for i, s in enumerate(seconds, 1)]
        history = SimpleNamespace(checks=checks, seconds=seconds[-1])
        return SimpleNamespace(history=history, recipe=zoo.Recipe())

    assert tables.minutes([run([60, 120, 780, 840])]) == "4.0"  # ten minutes were lost
    assert tables.minutes([run([10, 70, 130])]) == "2.2"
    assert tables.minutes([]) == "–"


def test_figures_of_recipes_that_followed_a_test_score_are_marked(found: list[Any]) -> None:
    marked = {(each.card.name, each.tag) for each in found if "†" in each.single_view}
    assert marked == {  # docs/numbers.md tells why
        ("sprint_l", "standard"),
        ("sprint_l", "long"),
        ("sprint_m", "long"),
        ("sprint_m3", "standard"),
        ("resnet20", "distilled"),
        ("resnet20", "long"),
        ("sprint_s", "standard"),
    }


def test_every_model_and_all_weights_are_listed_once(found: list[Any]) -> None:
    assert {each.card.name for each in found} == {*zoo.list_models()}
    assert len({each.label for each in found}) == len(found)
    listed = {(each.card.name, each.tag) for each in found if each.weights}
    cards = map(zoo.model_card, zoo.list_models())
    assert listed == {(card.name, weights.tag) for card in cards for weights in card.weights}


def test_runs_of_a_standing_have_its_recipe_and_different_seeds(found: list[Any]) -> None:
    for each in found:
        assert all(run.recipe == each.recipe for run in each.runs)
        assert len({run.seed for run in each.runs}) == len(each.runs)
    by_label = {each.label: each for each in found}
    assert len(by_label["sprint_m"].runs) == 5  # these have no weights in the package
    assert by_label["wrn_28_10"].runs == ()


@pytest.mark.parametrize("key", ["baseline", "model2", "best"])
def test_a_network_has_one_set_of_figures(key: str) -> None:
    packaged = sorted(PRETRAINED.glob(f"report_{key}-standard-seed*.json"))
    shown = sorted((ROOT / "results").glob(f"{key}-seed*.json"))
    assert [path.read_text() for path in shown] == [path.read_text() for path in packaged]


def test_all_records_can_be_read_and_are_named_by_their_seed() -> None:
    for path in (ROOT / "results").rglob("*-seed*.json"):
        assert path.stem.endswith(f"-seed{read_record(path).seed}")


def test_leaderboard_and_family_pages_show_every_standing(
    load_script: Callable[[str], ModuleType], found: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    page = load_script("docs/leaderboard.py")
    ours, theirs = page._leaderboard(found).split("## Published by others")
    assert all(f"| {each.name} | {each.source} |" in theirs for each in page.PUBLISHED)
    assert {*page.FAMILIES} == {each.card.family for each in found}
    for each in found:
        assert f"`{each.label}`" in ours
        text = page._family_page(each.card.family, found)
        assert f"## {each.card.name}\n" in text
        assert each.weights is None or each.weights.sha256 in text
        if each.weights and each.weights.scores:
            shown = f"{each.weights.scores.corruption_accuracy:.2%}"
            assert shown in text
            assert shown in ours


def test_reference_documents_every_public_name(
    load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    pages = load_script("docs/generated.py")
    text = "".join(pages._api_page(title) for title in pages.PAGES) + pages._pictures_page()
    for module in (zoo, zoo.arithmetic, zoo.errors, zoo.viz):
        for name in pages._documented(module):
            assert text.count(f":: {name}\n") == 1, name
