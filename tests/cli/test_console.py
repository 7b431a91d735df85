from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo import EarlyStopping, Recipe
from cifarzoo.cli import console


@given(st.text())
def test_escaped_text_cannot_control_a_terminal(text: str) -> None:
    shown = console.escape(text)
    assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(c) for c in shown}


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"))))
def test_visible_text_is_unchanged(text: str) -> None:
    assert console.escape(text) == text


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "1,000", "x"), ("犬", "7", "line\nbreak"), ("long name", "20", "")]
    console.show_table(("name", "number", "rest"), rows, numbers=("number",))
    assert capsys.readouterr().out.splitlines() == [
        "name       number  rest",
        "a           1,000  x",
        "犬              7  line\\nbreak",
        "long name      20",
    ]


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json({"recipe": Recipe(epochs=3), "names": ("a\u202e",)})
    out = capsys.readouterr().out
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["recipe"]["epochs"] == 3
    assert found["names"] == ["a\u202e"]
    assert out.isascii()


def test_fractions_are_shown_in_percent() -> None:
    assert console.percent(0.7251) == "72.51 %"
    assert console.percent(float("nan")) == console.percent(None) == "–"
    assert console.interval((0.7163, 0.7338)) == "71.6 to 73.4 %"


def test_recipe_is_summarized_in_one_line() -> None:
    assert console.summarize(Recipe()) == "SGD, lr 0.05, batch 64, 10 epochs"
    recipe = Recipe(epochs=1, optimizer="adamw", lr=1e-3, early_stopping=EarlyStopping())
    assert console.summarize(recipe) == "AdamW, lr 0.001, batch 64, up to 1 epoch"
