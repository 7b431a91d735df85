"""The nouns: frozen descriptions of models, recipes and weights.

Nothing here computes, and nothing here imports more than the standard library, so a card can be
read without loading torch. Every class is checked at birth; vary one with `dataclasses.replace`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from cifarzoo.spec.card import DEFAULT_TAG, ModelCard, Weights, require_tag
from cifarzoo.spec.checks import (
    is_dense,
    require,
    require_dense,
    require_number,
    require_whole,
    shape_hint,
    to_path,
)
from cifarzoo.spec.recipe import (
    Augmentation,
    Averaging,
    DecayName,
    Distillation,
    EarlyStopping,
    FlipName,
    KeepName,
    Mixing,
    MixingName,
    NormName,
    OptimizerName,
    PaddingName,
    ParamGroup,
    Recipe,
    ScheduleName,
    Selection,
    over_epochs,
)

__all__ = [
    "DEFAULT_TAG",
    "Augmentation",
    "Averaging",
    "DecayName",
    "DeviceName",
    "Distillation",
    "EarlyStopping",
    "FlipName",
    "KeepName",
    "Mixing",
    "MixingName",
    "ModelCard",
    "NormName",
    "OptimizerName",
    "PaddingName",
    "ParamGroup",
    "PrecisionName",
    "Recipe",
    "ScheduleName",
    "Selection",
    "TtaName",
    "Weights",
    "is_dense",
    "over_epochs",
    "require",
    "require_dense",
    "require_number",
    "require_tag",
    "require_whole",
    "shape_hint",
    "to_path",
]

PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]
DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
TtaName: TypeAlias = Literal["none", "flip", "flip_translate"]
