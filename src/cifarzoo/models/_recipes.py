"""Recipes that several families share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cifarzoo.spec import Augmentation, Distillation, ParamGroup, Recipe, Selection

__all__ = ["distilled_recipe", "long_sprint_recipe", "muon_recipe", "sprint_recipe"]


def muon_recipe(*, epochs: int, batch_size: int = 256, sgd: Sequence[str] = ()) -> Recipe:
    """Give the sprint family's way to train, for networks whose convolutions have batch norms.

    Where a norm follows a convolution, the filters' scale does nothing, so they keep their norm and
    Muon turns them; in a pre-activation block it stays what it was at the start. Norms, biases and
    the head, which has "head" in its name, are SGD's.

    Args:
        epochs: passes over all training images.
        batch_size: images per step; the rate goes with its root, as the sprint family's.
        sgd: patterns of other parameters that SGD is to change, such as biases, which are no
            matrices, and filters of a single channel.
    """
    plain = ParamGroup(params="*", optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="muon",
        lr=0.24 * math.sqrt(batch_size / 2000),
        momentum=0.6,
        nesterov=True,
        groups=(
            *(replace(plain, params=pattern) for pattern in ("*norm*", "*head*", *sgd)),
            ParamGroup(params="*", norm="kept"),
        ),
        schedule="linear",
        label_smoothing=0.1,
        keep="last",
        val_fraction=0.0,
        augmentation=Augmentation(flip="alternating", translate=2, padding="reflect"),
    )


def distilled_recipe(*, epochs: int, batch_size: int = 256) -> Recipe:
    """Give the same with a teacher, `sprint_m` after its long recipe, and images shifted further.

    Source: Beyer 2021 (arXiv 2106.05237), where small networks gain from long training on a
    teacher's answers to varied images. Over 45 epochs `resnet20` gained no more than noise.

    Args:
        epochs: passes over all training images.
        batch_size: images per step.
    """
    return replace(
        muon_recipe(epochs=epochs, batch_size=batch_size),
        augmentation=Augmentation(flip="alternating", translate=4, padding="reflect"),
        distillation=Distillation(teacher="sprint_m", weights="long"),
    )


def sprint_recipe(*, width: int, epochs: int, batch_size: int) -> Recipe:
    """Give airbench's recipe for batches of any size: what it says of sums is said of means.

    Args:
        width: number of features that the head takes.
        epochs: passes over all training images.
        batch_size: images per step.
    """
    decay = 2e-6 * batch_size  # of biases and head, per step at the highest rate
    bias_lr, head_lr = 0.053 * batch_size, 0.67 * batch_size / width**2
    sgd = ParamGroup(params="*", optimizer="sgd", momentum=0.85)
    biases = replace(sgd, lr=bias_lr, weight_decay=decay / bias_lr)
    return replace(
        muon_recipe(epochs=epochs, batch_size=batch_size),
        groups=(
            replace(biases, params="*.whiten.bias", epochs=epochs / 3),
            replace(biases, params="*.norm*.bias"),
            replace(sgd, params="*.head.weight", lr=head_lr, weight_decay=decay / head_lr),
            ParamGroup(params="*.conv*.weight", norm="kept"),
        ),
        label_smoothing=0.2,
    )


def long_sprint_recipe(
    *, width: int, epochs: int, batch_size: int, selection: Selection | None = None
) -> Recipe:
    """Give the same for the best accuracy, not the shortest time: images are changed more.

    Args:
        width: number of features that the head takes.
        epochs: passes over all training images.
        batch_size: images per batch.
        selection: of those that a step is taken with; the rates are for so many.
    """
    taken = batch_size if selection is None else round(selection.share * batch_size)
    return replace(
        sprint_recipe(width=width, epochs=epochs, batch_size=taken),
        batch_size=batch_size,
        augmentation=Augmentation(flip="alternating", translate=4, padding="reflect", cutout=12),
        selection=selection,
    )
