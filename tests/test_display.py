from __future__ import annotations

import html
import io

import pytest
from rich.console import Console
from torch import nn

import cifarzoo as zoo
import cifarzoo.recipe as recipe_module
from cifarzoo.display import HasTable, Table, settings_rows

TABLE = Table(
    title="a <b>", header=("what", "value"), rows=(("x & y", "1"),), numbers=("value",), note="n"
)


def history(checks: int, best: int) -> zoo.History:
    made = tuple(
        zoo.Check(
            step=step,
            epoch=step / 10,
            train_loss=1.0,
            train_accuracy=0.5,
            val_loss=None if step % 2 else 0.9,
            val_accuracy=None if step % 2 else 0.6,
            lr=0.05,
            seconds=1.0,
        )
        for step in range(1, checks + 1)
    )
    return zoo.History(
        checks=made, best_step=best, stopped="early", steps=checks, images=checks, seconds=1.0
    )


SHOWN: list[HasTable] = [
    zoo.model_card("sprint_s"),
    zoo.Evaluation(
        loss=0.5,
        accuracy=0.75,
        interval=(0.7, 0.8),
        per_class=(0.7, 0.8),
        calibration_error=0.02,
        n=20,
    ),
    history(3, 2),
    zoo.layer_table(nn.Conv2d(3, 8, 3)),
]


def render(thing: object) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_html_is_escaped() -> None:
    text = TABLE.html()
    assert "<b>a &lt;b&gt;</b>" in text
    assert "x &amp; y" in text
    assert "<p>n</p>" in text


@pytest.mark.parametrize("thing", SHOWN, ids=lambda thing: type(thing).__name__)
def test_notebook_and_terminal_show_the_same_cells(thing: HasTable) -> None:
    table = thing.table()
    page, terminal = thing._repr_html_(), render(thing)
    assert table.title in terminal
    assert len(table.rows) >= 2
    for row in table.rows[:4]:
        for cell in row:
            assert cell in terminal
            assert html.escape(cell) in page
    assert "<table" not in str(thing)


def test_table_is_printed_as_plain_text() -> None:
    assert str(TABLE).split() == ["a", "<b>", "what", "value", "─" * 13, "x", "&", "y", "1", "n"]
    found = str(zoo.layer_table(nn.Sequential(nn.Conv2d(3, 8, 5)), (3, 32, 32)))
    assert all(word in found for word in ("Conv2d", "8×28×28", "608", "470,400"))


def test_table_of_a_long_history_includes_the_best_and_the_last_check() -> None:
    table = history(95, 7).table()
    steps = [row[0] for row in table.rows]
    assert "7 *" in steps
    assert steps[-1] == "95"
    assert len(steps) <= 22
    assert "of 95 checks" in table.note
    assert history(20, 3).table().note.count("checks") == 0
    assert (
        not zoo.History(checks=(), best_step=0, stopped="failed", steps=0, images=0, seconds=0.0)
        .table()
        .rows
    )


def test_settings_rows_cover_every_field() -> None:
    rows = dict(settings_rows(zoo.model_card("sprint_s").recipe))
    assert rows["epochs"] == "5"
    assert rows["early stopping"] == "none"
    assert rows["groups"].startswith("params *.whiten.bias, optimizer sgd, lr ")
    assert "None" not in rows["groups"]
    assert "flip alternating" in rows["augmentation"]


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (zoo.Augmentation(flip="random"), "flip random"),
        (zoo.Augmentation(flip="random", rotation=15), "flip random, padding zero, rotation 15"),
        (zoo.Augmentation(rand_augment=2), "flip none, rand_augment 2, magnitude 9"),
    ],
)
def test_settings_rows_show_what_has_an_effect(
    augmentation: zoo.Augmentation, expected: str
) -> None:
    rows = dict(settings_rows(zoo.Recipe(augmentation=augmentation)))
    assert rows["augmentation"] == expected


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (zoo.Recipe(), "Recipe()"),
        (zoo.Recipe(epochs=3, mixing=zoo.Mixing()), "Recipe(epochs=3, mixing=Mixing())"),
        (zoo.ParamGroup(params="*"), "ParamGroup(params='*')"),
    ],
)
def test_repr_of_settings_lists_what_differs_from_the_defaults(
    shown: object, expected: str
) -> None:
    assert repr(shown) == expected


def test_repr_of_recipes_makes_equal_ones() -> None:
    for name in zoo.list_models():
        for recipe in zoo.model_card(name).recipes.values():
            assert eval(repr(recipe), vars(recipe_module)) == recipe
