"""cifarzoo: small, typed, trustworthy CIFAR-10 models.

The public names are loaded when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifarzoo import viz as viz
    from cifarzoo.arithmetic.area import receptive_area
    from cifarzoo.arithmetic.convolution import convolve2d
    from cifarzoo.arithmetic.cost import LayerCost, LayerTable, count_params, layer_table
    from cifarzoo.arithmetic.shapes import conv_output_size, kernel_size_for, same_padding
    from cifarzoo.data.features import feature_loaders
    from cifarzoo.data.loaders import (
        BatchLoader,
        Loaders,
        TensorLoader,
        TensorLoaders,
        cifar10_loaders,
        shapes_loaders,
    )
    from cifarzoo.errors import (
        CheckpointError,
        CifarZooError,
        DataCorruptError,
        DataNotFoundError,
        DownloadError,
        EmptyLoaderError,
        LabelError,
        MissingExtraError,
        NonFiniteLossError,
        OptionError,
        RangeError,
        ResultsError,
        ShapeError,
        UnknownModelError,
        WeightsError,
    )
    from cifarzoo.evaluation.compare import compare
    from cifarzoo.evaluation.comparison import Comparison
    from cifarzoo.evaluation.evaluate import Evaluation, evaluate
    from cifarzoo.evaluation.predict import Predictions, predict
    from cifarzoo.evaluation.statistics import (
        Estimate,
        accuracy_interval,
        mean_and_std,
        paired_difference,
    )
    from cifarzoo.models.backbone import (
        BackboneWeights,
        TransferClassifier,
        split_frozen,
        transfer_classifier,
    )
    from cifarzoo.models.classifier import ImageClassifier, Preprocess
    from cifarzoo.models.report import Layout, report_model
    from cifarzoo.registry import ModelName, build_model, list_models, model_card
    from cifarzoo.run import Run, train
    from cifarzoo.spec import (
        Augmentation,
        Averaging,
        Distillation,
        EarlyStopping,
        Mixing,
        ModelCard,
        ParamGroup,
        Recipe,
        Selection,
        Weights,
    )
    from cifarzoo.training.callbacks import Callback, TensorBoardCallback
    from cifarzoo.training.fit import fit
    from cifarzoo.training.history import Check, History
    from cifarzoo.training.selection import Proxy
    from cifarzoo.weights import save_weights

__version__ = "0.1.0"

_HOMES = {
    "arithmetic.area": ("receptive_area",),
    "arithmetic.convolution": ("convolve2d",),
    "arithmetic.cost": ("LayerCost", "LayerTable", "count_params", "layer_table"),
    "arithmetic.shapes": ("conv_output_size", "kernel_size_for", "same_padding"),
    "data.features": ("feature_loaders",),
    "data.loaders": (
        "BatchLoader",
        "Loaders",
        "TensorLoader",
        "TensorLoaders",
        "cifar10_loaders",
        "shapes_loaders",
    ),
    "errors": (
        "CheckpointError",
        "CifarZooError",
        "DataCorruptError",
        "DataNotFoundError",
        "DownloadError",
        "EmptyLoaderError",
        "LabelError",
        "MissingExtraError",
        "NonFiniteLossError",
        "OptionError",
        "RangeError",
        "ResultsError",
        "ShapeError",
        "UnknownModelError",
        "WeightsError",
    ),
    "evaluation.compare": ("compare",),
    "evaluation.comparison": ("Comparison",),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "evaluation.predict": ("Predictions", "predict"),
    "evaluation.statistics": (
        "Estimate",
        "accuracy_interval",
        "mean_and_std",
        "paired_difference",
    ),
    "models.classifier": ("ImageClassifier", "Preprocess"),
    "models.report": ("Layout", "report_model"),
    "models.backbone": (
        "BackboneWeights",
        "TransferClassifier",
        "split_frozen",
        "transfer_classifier",
    ),
    "registry": ("ModelName", "build_model", "list_models", "model_card"),
    "run": ("Run", "train"),
    "spec": (
        "Augmentation",
        "Averaging",
        "Distillation",
        "EarlyStopping",
        "Mixing",
        "ModelCard",
        "ParamGroup",
        "Recipe",
        "Selection",
        "Weights",
    ),
    "training.callbacks": ("Callback", "TensorBoardCallback"),
    "training.fit": ("fit",),
    "training.history": ("Check", "History"),
    "training.selection": ("Proxy",),
    "weights": ("save_weights",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Augmentation",
    "Averaging",
    "BackboneWeights",
    "BatchLoader",
    "Callback",
    "Check",
    "CheckpointError",
    "CifarZooError",
    "Comparison",
    "DataCorruptError",
    "DataNotFoundError",
    "Distillation",
    "DownloadError",
    "EarlyStopping",
    "EmptyLoaderError",
    "Estimate",
    "Evaluation",
    "History",
    "ImageClassifier",
    "LabelError",
    "LayerCost",
    "LayerTable",
    "Layout",
    "Loaders",
    "MissingExtraError",
    "Mixing",
    "ModelCard",
    "ModelName",
    "NonFiniteLossError",
    "OptionError",
    "ParamGroup",
    "Predictions",
    "Preprocess",
    "Proxy",
    "RangeError",
    "Recipe",
    "ResultsError",
    "Run",
    "Selection",
    "ShapeError",
    "TensorBoardCallback",
    "TensorLoader",
    "TensorLoaders",
    "TransferClassifier",
    "UnknownModelError",
    "Weights",
    "WeightsError",
    "__version__",
    "accuracy_interval",
    "build_model",
    "cifar10_loaders",
    "compare",
    "conv_output_size",
    "convolve2d",
    "count_params",
    "evaluate",
    "feature_loaders",
    "fit",
    "kernel_size_for",
    "layer_table",
    "list_models",
    "mean_and_std",
    "model_card",
    "paired_difference",
    "predict",
    "receptive_area",
    "report_model",
    "same_padding",
    "save_weights",
    "shapes_loaders",
    "split_frozen",
    "train",
    "transfer_classifier",
    "viz",
]


def __getattr__(name: str) -> object:
    if name == "viz":
        return importlib.import_module("cifarzoo.viz")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cifarzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cifarzoo.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
