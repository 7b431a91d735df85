"""Numbers and settings in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cifarzoo.spec import DEFAULT_TAG

if TYPE_CHECKING:
    from cifarzoo.spec import ModelCard, Recipe, Weights

__all__ = [
    "accuracy_words",
    "epochs_words",
    "interval_words",
    "optimizer_words",
    "percent",
    "recipe_words",
    "size_words",
    "spread_words",
]


def percent(share: float | None) -> str:
    """Write a share of 1 as a percentage with two decimals; an unknown one as a dash."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.2f} %"


def interval_words(low: float, high: float) -> str:
    """Write an interval of shares: "71.4 to 73.2 %"."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def size_words(size_bytes: int) -> str:
    """Write a file's size in decimal units."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e3:.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"


def recipe_words(recipe: Recipe) -> str:
    """Write a recipe in a few words: what makes it different from others.

    Example:
        >>> recipe_words(Recipe())
        'SGD, lr 0.05, batch 64, 10 epochs'
    """
    parts = [
        optimizer_words(recipe),
        f"lr {recipe.lr:g}",
        f"batch {recipe.batch_size}",
        epochs_words(recipe),
    ]
    if recipe.schedule != "constant":
        parts.append(recipe.schedule.replace("_", "-"))
    if recipe.augmentation is not None:
        parts.append("augmented")
    if recipe.mixing is not None:
        parts.append({"either": "mixup or cutmix"}.get(recipe.mixing.kind, recipe.mixing.kind))
    if recipe.averaging is not None:
        parts.append("averaged")
    if recipe.distillation is not None:
        parts.append(f"taught by {recipe.distillation.teacher}")
    if recipe.selection is not None:
        share, proxy = recipe.selection.share, recipe.selection.proxy
        parts.append(f"{share:.0%} of each batch, chosen by {proxy}")
    return ", ".join(parts)


def optimizer_words(recipe: Recipe) -> str:
    """Write an optimizer's name as its authors do."""
    return {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}[recipe.optimizer]


def epochs_words(recipe: Recipe) -> str:
    """Write how long a recipe trains; with early stopping, at most."""
    at_most = "≤ " if recipe.early_stopping is not None else ""
    return f"{at_most}{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"


def accuracy_words(card: ModelCard) -> str:
    """Write what the runs reach whose weights load by default, or "no weights".

    Returns:
        As `spread_words` gives it; of weights that are not by the card's own recipe with their tag.
        The means of others follow, with theirs.
    """
    weights = card.weights_for(DEFAULT_TAG)
    if weights is None:
        return "no weights"
    tag = "" if weights.tag == DEFAULT_TAG else f"{weights.tag}: "
    others = [f"; {each.tag}: {percent(each.mean)}" for each in card.weights if each != weights]
    return f"{tag}{spread_words(weights)}{''.join(others)}"


def spread_words(weights: Weights) -> str:
    """Write what the seeds reached, in percent.

    Returns:
        Such as "80.61 ± 0.21 % (3 seeds)"; of one seed its figure and the interval.
    """
    if weights.std is None:
        low, high = weights.interval
        return f"{percent(weights.accuracy)} ({100 * low:.2f} to {100 * high:.2f}, 1 seed)"
    return f"{100 * weights.mean:.2f} ± {100 * weights.std:.2f} % ({len(weights.seeds)} seeds)"
