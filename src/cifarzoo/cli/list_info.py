"""`cifarzoo list` and `cifarzoo info`: show the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from cifarzoo.cli import options
from cifarzoo.cli.console import interval, log, percent, say, show_json, show_table, summarize

if TYPE_CHECKING:
    from cifarzoo.card import ModelCard, Weights
    from cifarzoo.recipe import Recipe
    from cifarzoo.record import Scores

__all__ = ["info_command", "list_command"]


def list_command(
    pattern: Annotated[
        str, Argument(metavar="[PATTERN]", help="Names to list, such as 'resnet*'.")
    ] = "*",
    family: Annotated[
        str | None, Option(metavar="NAME", help="List only this family, such as report.")
    ] = None,
    max_params: Annotated[
        int | None, Option(metavar="N", min=0, help="List only models with at most N parameters.")
    ] = None,
    json: options.Json = False,
) -> None:
    """List the models: parameters, multiply-accumulates, recipe, test accuracy."""
    from cifarzoo.registry import list_models, model_card

    cards = [*map(model_card, list_models(pattern, family=family, max_params=max_params))]
    if json:
        show_json([_record(card) for card in cards])
        return
    if not cards:
        log("no model matches")
        return
    rows = []
    for card in cards:
        params, macs = _cost(card)
        accuracies = (f"{each.tag} {_mean(each)} on {each.data}" for each in card.weights)
        size = (f"{params:,}", f"{macs / 1e6:,.1f} M")
        accuracy = "; ".join(accuracies) or "no weights"
        rows.append((card.name, *size, summarize(card.recipe), accuracy))
    sizes = ("parameters", "MACs")
    show_table(("name", *sizes, "recipe", "test accuracy"), rows, numbers=sizes)


def info_command(
    name: options.Name, cards: options.Cards = None, json: options.Json = False
) -> None:
    """Show a model: card, recipes, weights, layers."""
    from cifarzoo.arithmetic import layer_table
    from cifarzoo.registry import build_from_card, model_card

    card = model_card(name)
    layers = layer_table(build_from_card(card))
    if json:
        show_json({**_record(card), "layers": list(layers)})
        return
    say(f"{card.name}: {card.summary}")
    say(f"family {card.family}" + (f"; {card.paper}" if card.paper else ""))
    say()
    _show_recipes(card)
    say()
    if card.initial_weights is not None:
        say(f"Training starts from the weights {card.initial_weights!r}.")
    if card.weights:
        _show_weights(card.weights)
    else:
        say("The package contains no weights of this model.")
    say()
    table = layers.table()
    show_table(table.header, table.rows, numbers=table.numbers)


def _show_recipes(card: ModelCard) -> None:
    """Print the first recipe, and the settings that differ in the others."""
    first: dict[str, str] = {}
    for tag, recipe in card.recipes.items():
        rows = _settings(recipe)
        if first:
            say()
        show_table((f"recipe {tag}", ""), [row for row in rows.items() if row not in first.items()])
        first = first or rows


def _settings(recipe: Recipe) -> dict[str, str]:
    from cifarzoo.display import settings_rows

    rows = dict(settings_rows(recipe))
    del rows["groups"]  # too long for one line
    for group in recipe.groups:
        values = [row for row in settings_rows(group)[1:] if row[1] not in ("none", "False")]
        rows[f"group {group.params}"] = ", ".join(map(" ".join, values))
    return rows


def _show_weights(weights: tuple[Weights, ...]) -> None:
    rows = [
        ("data set", *(each.data for each in weights)),
        ("accuracy", *(percent(each.accuracy) for each in weights)),
        ("95 % interval", *(interval(each.interval) for each in weights)),
        ("with TTA (6 views)", *(percent(each.tta_accuracy) for each in weights)),
        ("mean of all runs", *map(_mean, weights)),
        ("seeds", *(", ".join(map(str, each.seeds)) for each in weights)),
        *_score_rows([each.scores for each in weights]),
        ("training time", *(f"{each.seconds:,.0f} s" for each in weights)),
        ("trained on", *(each.run.provenance.machine for each in weights)),
        ("bytes", *(f"{each.size_bytes:,}" for each in weights)),
        ("SHA-256", *(each.sha256 for each in weights)),
    ]
    show_table(("weights", *(each.tag for each in weights)), rows)


def _score_rows(found: Sequence[Scores | None]) -> list[tuple[str, ...]]:
    """Return a row per score, with a dash for weights that were not scored."""
    tables = [each.table().rows if each else () for each in found]
    columns = [{row[0]: row[1] for row in rows} for rows in tables]
    names = dict.fromkeys(name for column in columns for name in column)
    cells = [[column.get(name, "–").replace("%", " %") for column in columns] for name in names]
    return [(name, *row) for name, row in zip(names, cells, strict=True)]


def _mean(weights: Weights) -> str:
    """Format the accuracy over the seeds, such as "80.61 ± 0.21 % (3 seeds)"."""
    if weights.std is None:
        return f"{percent(weights.accuracy)} (1 seed)"
    return f"{100 * weights.mean:.2f} ± {100 * weights.std:.2f} % ({len(weights.seeds)} seeds)"


def _cost(card: ModelCard) -> tuple[int, int]:
    """Return the number of parameters, and of multiply-accumulates for one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cifarzoo.arithmetic import count_params
    from cifarzoo.registry import build_on_meta

    model = build_on_meta(card).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, device="meta"))
    return count_params(model), counter.get_total_flops() // 2


def _record(card: ModelCard) -> dict[str, Any]:
    params, macs = _cost(card)
    names = ("family", "summary", "paper", "initial_weights", "recipes")
    weights = ("tag", "data", "sha256", "size_bytes", "accuracy", "interval", "tta_accuracy")
    return {
        "name": card.name,
        "params": params,
        "macs": macs,
        **{name: getattr(card, name) for name in names},
        "weights": [
            {
                name: getattr(each, name)
                for name in (*weights, "mean", "std", "seeds", "seconds", "scores")
            }
            for each in card.weights
        ],
    }
