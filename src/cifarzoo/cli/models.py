"""`cifarzoo list` and `cifarzoo info`: what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cifarzoo.cli.console import remark, say, show_json, show_table
from cifarzoo.cli.options import Json, Name, at_least
from cifarzoo.cli.words import (
    accuracy_words,
    interval_words,
    percent,
    recipe_words,
    size_words,
    spread_words,
)
from cifarzoo.display import settings_rows

if TYPE_CHECKING:
    from cifarzoo.spec import ModelCard

__all__ = ["info_command", "list_command"]


def list_command(
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this family, for example report.")
    ] = None,
    max_params: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=at_least(0),
            help="Only models of at most N parameters, 0 or more.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the models: size, recipe, accuracy."""
    from cifarzoo.cli.records import card_record
    from cifarzoo.registry import list_models, model_card

    cards = [model_card(name) for name in list_models(family=family, max_params=max_params)]
    records = [card_record(card) for card in cards]
    if json:
        show_json(records)
        return
    if not cards:
        remark(f"no model has at most {max_params:,} parameters; `cifarzoo list` shows them all")
        return
    rows = [
        (
            card.name,
            f"{record['params']:,}",
            f"{record['macs'] / 1e6:,.1f} M",
            recipe_words(card.recipe),
            accuracy_words(card),
            ", ".join(weights.tag for weights in card.weights) or "–",
            card.summary,
        )
        for card, record in zip(cards, records, strict=True)
    ]
    header = ("name", "parameters", "MACs", "recipe", "test accuracy", "weights", "summary")
    show_table(header, rows, numbers=("parameters", "MACs"))


def info_command(name: Name, json: Json = False) -> None:
    """Show one model: its card, its recipe, its layers."""
    from cifarzoo.cli.records import card_record, layers_of
    from cifarzoo.registry import model_card

    card = model_card(name)
    rows = layers_of(card)
    if json:
        show_json({**card_record(card), "layers": [asdict(row) for row in rows]})
        return
    say(card.name, style="bold")
    say(card.summary)
    say(f"family {card.family}; {card.paper}\n")
    show_table(("recipe", ""), settings_rows(card.recipe))
    say()
    for tag, recipe in card.more_recipes:
        say(f"Another recipe, --tag {tag}: {recipe_words(recipe)}\n")
    _show_weights(card)
    table = rows._display()
    show_table(table.header, table.rows, numbers=table.numbers)
    say(f"\nTrain it: cifarzoo train {card.name}")


def _show_weights(card: ModelCard) -> None:
    from cifarzoo.report.words import duration

    if card.initial_weights is not None:
        say(f"Training starts from the weights {card.initial_weights!r}.")
    if not card.weights:
        say("No trained weights come with the package.\n")
        return
    rows = [
        (
            weights.tag,
            percent(weights.accuracy),
            interval_words(*weights.interval),
            percent(weights.views),
            spread_words(weights),
            ", ".join(map(str, weights.seeds)),
            size_words(weights.size_bytes),
            duration(weights.seconds),
            weights.machine,
        )
        for weights in card.weights
    ]
    header = (
        *("weights", "this file", "95 % interval", "six views", "all runs", "seeds", "size"),
        *("trained in", "trained on"),
    )
    show_table(header, rows)
    say()
    for weights in card.weights:
        say(f"{weights.tag}: {weights.size_bytes:,} bytes, SHA-256 {weights.sha256}")
    say()
