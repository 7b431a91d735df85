"""Recipes that several families share."""

from __future__ import annotations

import math
from dataclasses import replace

from cifarzoo.spec import Augmentation, ParamGroup, Recipe

__all__ = ["LONG", "muon_recipe"]

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


def muon_recipe(*, epochs: int, batch_size: int = 256) -> Recipe:
    """Give the sprint family's way to train, for networks whose convolutions have batch norms.

    Their scale does nothing, so filters keep their norm and Muon turns them; norms, biases and the
    head, which has "head" in its name, are SGD's.

    Args:
        epochs: passes over all training images.
        batch_size: images per step; the rate goes with its root, as the sprint family's.
    """
    sgd = ParamGroup(params="*", optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="muon",
        lr=0.24 * math.sqrt(batch_size / 2000),
        momentum=0.6,
        nesterov=True,
        groups=(
            replace(sgd, params="*norm*"),
            replace(sgd, params="*head*"),
            ParamGroup(params="*", norm="kept"),
        ),
        schedule="linear",
        label_smoothing=0.1,
        keep="last",
        val_fraction=0.0,
        augmentation=Augmentation(flip="alternating", translate=2, padding="reflect"),
    )
