from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarzoo.cli import console


@given(st.text())
def test_visible_text_cannot_steer_a_terminal(text: str) -> None:
    shown = console.visible(text)
    unseen = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
    assert not unseen & {unicodedata.category(c) for c in shown.replace("\n", "")}
    assert console.visible(shown) == shown


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_visible_text_stays_as_it_is(text: str) -> None:
    assert console.visible(text) == text


def test_escapes_and_undecodable_names_are_shown() -> None:
    assert console.visible("a\x1b[31m\u202eb\udcff\n") == "a\\x1b[31m\\u202eb\\udcff\n"
    assert console.one_line("a\nb") == "a\\nb"


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("[red]x[/red] [bold] :smile:")
    console.remark("[/] y")
    captured = capsys.readouterr()
    assert captured.out == "[red]x[/red] [bold] :smile:\n"
    assert captured.err == "[/] y\n"


def test_long_line_is_not_wrapped_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("word " * 200)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_plain_table_is_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "1,000", "[b]x[/b]"), ("long name", "7", "line\nbreak")]
    console.show_table(("name", "number", "rest"), rows, title="A title", numbers=("number",))
    assert capsys.readouterr().out.splitlines() == [
        "A title",
        "name       number  rest",
        "a           1,000  [b]x[/b]",
        "long name       7  line\\nbreak",
    ]


def test_table_is_dressed_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.show_table(("name",), [("[b]a",)])
    out = capsys.readouterr().out
    assert "─" in out
    assert "[b]a" in out


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json({"a": (1.5, float("nan")), "b": {"c": float("inf")}, "d": Path("x").name})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"a": [1.5, None], "b": {"c": None}, "d": "x"}


def test_stream_that_cannot_write_a_character_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.survive_odd_encodings()
    stream.write("5×5")
    stream.flush()
    assert stream.buffer.getvalue() == b"5?5"


@pytest.mark.parametrize("columns", [10, 20, 30, 40, 60, 80])
def test_terminal_of_any_width_loses_no_digit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("network.block1.conv1", "1,234,567", "12,345,678,901", "words and words")]
    header = ("layer", "parameters", "multiply-accumulates", "what it is")
    console.show_table(header, rows, numbers=header[1:3], prose=header[3:])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "1,234,567 " in shown
    assert "12,345,678,901" in shown
    assert "network.block1.conv1"[:7] in shown
