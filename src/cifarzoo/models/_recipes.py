"""Recipes that several families share."""

from __future__ import annotations

from cifarzoo.spec import Augmentation, Recipe

__all__ = ["LONG"]

LONG = Recipe(
    epochs=100,
    batch_size=128,
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=5,
    label_smoothing=0.1,
    keep="last",
    val_fraction=0.0,
    augmentation=Augmentation(flip="random", translate=4),
)
