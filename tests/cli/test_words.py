from __future__ import annotations

from dataclasses import replace

import pytest

from cifarzoo import Augmentation, EarlyStopping, Recipe, Weights, model_card
from cifarzoo.cli import words


@pytest.mark.parametrize(
    ("size", "shown"), [(999, "999 bytes"), (1562, "2 kB"), (1_562_840, "1.6 MB")]
)
def test_sizes(size: int, shown: str) -> None:
    assert words.size_words(size) == shown


def test_shares() -> None:
    assert words.percent(0.7251) == "72.51 %"
    assert words.percent(float("nan")) == words.percent(None) == "–"
    assert words.interval_words(0.7163, 0.7338) == "71.6 to 73.4 %"


def test_recipes() -> None:
    assert words.recipe_words(Recipe()) == "SGD, lr 0.05, batch 64, 10 epochs"
    recipe = Recipe(
        epochs=1,
        optimizer="adamw",
        lr=1e-3,
        schedule="one_cycle",
        early_stopping=EarlyStopping(),
        augmentation=Augmentation(flip="random"),
    )
    expected = "AdamW, lr 0.001, batch 64, ≤ 1 epoch, one-cycle, augmented"
    assert words.recipe_words(recipe) == expected


def test_accuracies(published: Weights) -> None:
    card = model_card("report_best")
    assert words.accuracy_words(replace(card, weights=())) == "no weights"
    tagged = words.accuracy_words(replace(card, weights=(published,)))
    assert tagged == f"{published.tag}: 80.61 ± 0.21 % (3 seeds)"
    published = replace(published, tag="default")
    assert words.accuracy_words(replace(card, weights=(published,))) == "80.61 ± 0.21 % (3 seeds)"
    better = replace(published, tag="long", mean=0.85)
    both = words.accuracy_words(replace(card, weights=(published, better)))
    assert both == "80.61 ± 0.21 % (3 seeds); long: 85.00 %"
    worse = words.accuracy_words(replace(card, weights=(published, replace(better, mean=0.5))))
    assert worse == "80.61 ± 0.21 % (3 seeds); long: 50.00 %"
    one = replace(published, std=None, seeds=(0,), seed=0)
    assert words.accuracy_words(replace(card, weights=(one,))) == "80.58 % (79.80 to 81.34, 1 seed)"
