from __future__ import annotations

import html
import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

import cifarzoo as zoo
from cifarzoo.display import Display, Shown, settings_rows
from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.training.history import Check, History

TABLE = Display(
    title="a <b>", header=("what", "value"), rows=(("x & y", "1"),), numbers=("value",), note="n"
)


def _check(step: int) -> Check:
    return Check(
        step=step,
        epoch=step / 10,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=None if step % 2 else 0.9,
        val_accuracy=None if step % 2 else 0.6,
        lr=0.05,
        seconds=1.0,
    )


def _history(checks: int, best: int) -> History:
    made = tuple(_check(step) for step in range(1, checks + 1))
    return History(
        checks=made, best_step=best, stopped="early", steps=checks, images=checks, seconds=1.0
    )


def _things() -> list[Shown]:
    evaluation = Evaluation(
        loss=0.5,
        accuracy=0.75,
        interval=(0.7, 0.8),
        per_class=(0.7, 0.8),
        confusion=torch.tensor([[7, 3], [2, 8]]),
        calibration_error=0.02,
        n=20,
    )
    return [
        zoo.model_card("sprint_s"),
        evaluation,
        _history(3, 2),
        zoo.layer_table(nn.Conv2d(3, 8, 3)),
    ]


def _in_terminal(thing: object) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_html_escapes_what_it_is_given() -> None:
    text = TABLE.html()
    assert "<b>a &lt;b&gt;</b>" in text
    assert "<td" in text
    assert "x &amp; y" in text
    assert "<p>n</p>" in text


@pytest.mark.parametrize("thing", _things(), ids=lambda thing: type(thing).__name__)
def test_each_shows_the_same_cells_in_a_notebook_and_in_a_terminal(thing: Shown) -> None:
    table = thing._display()
    page, terminal = thing._repr_html_(), _in_terminal(thing)
    assert page.startswith("<table>")
    assert table.title in terminal
    assert len(table.rows) >= 2
    for row in table.rows[:4]:
        for cell in row:
            assert cell in terminal
            assert html.escape(cell) in page
    assert "<script" not in page
    assert "http" not in page


@pytest.mark.parametrize("thing", _things(), ids=lambda thing: type(thing).__name__)
def test_print_stays_plain(thing: Shown) -> None:
    for text in (str(thing), repr(thing)):
        assert "<table" not in text
        assert "\x1b" not in text
        assert "─" not in text


def test_an_evaluation_names_interval_and_classes() -> None:
    rows = {row[0]: row[1] for row in _things()[1]._display().rows}
    assert rows["accuracy"] == "75.00%"
    assert rows["95 % interval"] == "70.00% to 80.00%"
    assert rows["class 1"] == "80.00%"
    assert rows["test-time augmentation"] == "none"


def test_a_long_history_is_thinned_but_keeps_the_best_and_the_last() -> None:
    table = _history(95, 7)._display()
    steps = [row[0] for row in table.rows]
    assert "7 *" in steps
    assert steps[-1] == "95"
    assert len(steps) <= 22
    assert "22 of 95 checks are shown" in table.note or "21 of 95 checks" in table.note
    assert len(_history(20, 3)._display().rows) == 20


def test_a_history_without_checks_shows_an_empty_table() -> None:
    history = History(checks=(), best_step=0, stopped="failed", steps=0, images=0, seconds=0.0)
    assert history._display().rows == ()
    assert "ended: failed" in _in_terminal(history)


def test_a_layer_table_is_a_tuple_and_adds_up() -> None:
    table = zoo.layer_table(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    assert isinstance(table, tuple)
    assert table._display().rows[-1][3] == f"{sum(row.params for row in table):,}" == "224"


def test_settings_hold_every_field_of_a_recipe() -> None:
    recipe = zoo.model_card("sprint_s").recipe
    rows = dict(settings_rows(replace(recipe, groups=recipe.groups[:1])))
    assert rows["epochs"] == "4"
    assert rows["early stopping"] == "none"
    assert rows["groups"].startswith("params *.whiten.bias, optimizer sgd, lr ")
    assert "None" not in rows["groups"]
    assert "flip alternating" in rows["augmentation"]
    plain = dict(settings_rows(zoo.model_card("report_model1").recipe))
    assert plain["batch size"] == "32"
    assert plain["early stopping"] == "patience 4"
    assert plain["groups"] == plain["augmentation"] == "none"
