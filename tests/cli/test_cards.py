"""The option --card adds a model of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cifarzoo import ModelCard
from cifarzoo.errors import InvalidValueError

Call = Callable[..., Result]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ModelCard]:
    """Return the cards that commands register; there is a module with cards in the folder."""
    cards: list[ModelCard] = []

    def register(card: ModelCard) -> None:
        if card.name == "taken":
            raise InvalidValueError("the name exists")
        cards.append(card)

    monkeypatch.setattr("cifarzoo.registry.register", register, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(
        "from dataclasses import replace\nfrom cifarzoo import model_card\n"
        "CARD = replace(model_card('tiny_s'), name='my_net')\nTAKEN = replace(CARD, name='taken')\n"
    )
    (tmp_path / "broken_models.py").write_text("1 / 0")
    return cards


def test_card_is_imported_from_the_working_directory(
    call: Call, registered: list[ModelCard]
) -> None:
    call("info", "tiny_s", "--card", "my_models:CARD", "--json")
    assert [(card.name, card.family) for card in registered] == [("my_net", "tiny")]
    for command in ("train", "evaluate", "predict", "compare"):
        assert "--card" in call(command, "--help").stdout


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("my_models", "MODULE:NAME"),
        ("my_models:CARDS", "module 'my_models' has no attribute 'CARDS'"),
        ("my_models:TAKEN", "the name exists"),
        ("no_models:CARD", "No module named 'no_models'"),
        ("broken_models:CARD", "ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_card_that_cannot_be_imported_is_named(call: Call, value: str, message: str) -> None:
    result = call("info", "tiny_s", "--card", value, code=2)
    assert value in result.stderr
    assert message in result.stderr
