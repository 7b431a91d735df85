"""`cifarzoo list` and `cifarzoo info`: what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cifarzoo.cli.console import columns, remark, say, show_json, show_table
from cifarzoo.cli.options import Json, Name, at_least
from cifarzoo.cli.words import (
    accuracy_words,
    epochs_words,
    interval_words,
    optimizer_words,
    percent,
    recipe_words,
    size_words,
    spread_words,
)
from cifarzoo.display import settings_rows

if TYPE_CHECKING:
    from cifarzoo.spec import ModelCard

__all__ = ["info_command", "list_command"]

SUMMARY_COLUMNS = 110


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
    from cifarzoo.errors import WeightsError
    from cifarzoo.registry import bare_card, list_models, model_card

    cards, damaged = [], set()
    for name in list_models(family=family, max_params=max_params):
        try:
            cards.append(model_card(name))
        except WeightsError as error:  # of one model: the others have theirs
            remark(f"error: {error}", style="red")
            cards.append(bare_card(name))
            damaged.add(name)
    records = [card_record(card) for card in cards]
    if json:
        show_json([r | {"weights": None} if r["name"] in damaged else r for r in records])
        raise typer.Exit(bool(damaged))
    if not cards:
        remark(f"no model has at most {max_params:,} parameters; `cifarzoo list` shows them all")
        return
    is_wide = columns() >= SUMMARY_COLUMNS  # a narrow terminal leaves that to `info`
    rows = [
        (
            card.name,
            f"{record['params']:,}",
            f"{record['macs'] / 1e6:,.1f} M",
            f"{optimizer_words(card.recipe)}, {epochs_words(card.recipe)}",
            "not known" if card.name in damaged else accuracy_words(card),
            "damaged"
            if card.name in damaged
            else ", ".join(weights.tag for weights in card.weights) or "–",
            *([card.summary] if is_wide else []),
        )
        for card, record in zip(cards, records, strict=True)
    ]
    words = ("recipe", "test accuracy", "weights", *(["summary"] if is_wide else []))
    sizes = ("parameters", "MACs")
    show_table(("name", *sizes, *words), rows, numbers=sizes, prose=words)
    raise typer.Exit(bool(damaged))


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
    show_table(("recipe", ""), settings_rows(card.recipe), prose=("",))
    say()
    for tag, recipe in card.more_recipes:
        say(f"Another recipe, --tag {tag}: {recipe_words(recipe)}. It differs in")
        own = dict(settings_rows(card.recipe))
        changed = [row for row in settings_rows(recipe) if own.pop(row[0], None) != row[1]]
        gone = [(name, "–") for name in own]
        show_table((tag, ""), [*changed, *gone], prose=("",))
        say()
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
        ("this file", [percent(weights.accuracy) for weights in card.weights]),
        ("95 % interval", [interval_words(*weights.interval) for weights in card.weights]),
        ("six views", [percent(weights.views) for weights in card.weights]),
        ("all runs", [spread_words(weights) for weights in card.weights]),
        ("seeds", [", ".join(map(str, weights.seeds)) for weights in card.weights]),
        ("size", [size_words(weights.size_bytes) for weights in card.weights]),
        ("trained in", [duration(weights.seconds) for weights in card.weights]),
        ("trained on", [weights.machine for weights in card.weights]),
    ]
    tags = [weights.tag for weights in card.weights]
    show_table(("weights", *tags), [(what, *cells) for what, cells in rows], prose=tags)
    say()
    for weights in card.weights:
        say(f"{weights.tag}: {weights.size_bytes:,} bytes, SHA-256 {weights.sha256}")
    say()
