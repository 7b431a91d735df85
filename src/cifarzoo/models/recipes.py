"""The training recipe that most families share; their modules set its rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cifarzoo.recipe import Augmentation, ParamGroup, Recipe

__all__ = ["muon_recipe"]

BATCH_SIZE = 256


def muon_recipe(
    *, epochs: int, muon_lr: float, sgd_lr: float, sgd_params: Sequence[str] = ()
) -> Recipe:
    """Return a recipe with Muon for the filters and SGD for the rest.

    It follows airbench94_muon (github.com/KellerJordan/cifar10-airbench) and is for networks with
    batch norm: there, the scale of a filter has no effect, so the filters keep their initial norm.

    Args:
        epochs: passes over the training images.
        muon_lr: learning rate at batches of 2,000 images; scaled by sqrt(batch_size / 2000).
        sgd_lr: learning rate of the norms, the head and `sgd_params`.
        sgd_params: name patterns of further parameters trained by SGD, such as biases.
    """
    sgd_groups = [
        ParamGroup(params=pattern, optimizer="sgd", lr=sgd_lr, momentum=0.9, weight_decay=5e-4)
        for pattern in ("*norm*", "*head*", *sgd_params)
    ]
    return Recipe(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer="muon",
        lr=muon_lr * math.sqrt(BATCH_SIZE / 2000),
        momentum=0.6,
        nesterov=True,
        groups=(*sgd_groups, ParamGroup(params="*", fix_norm=True)),
        schedule="linear",
        label_smoothing=0.1,
        keep="last",
        val_fraction=0.0,
        augmentation=Augmentation(flip="alternating", translate=2, padding="reflect"),
    )
