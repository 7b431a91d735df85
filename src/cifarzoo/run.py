"""Training runs: `train` returns a `Run`, which can be saved to a folder and loaded again."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypedDict, overload

import torch
from pydantic import Field, InstanceOf
from torch import nn
from typing_extensions import Unpack

from cifarzoo.arithmetic.layers import count_params
from cifarzoo.card import ModelCard
from cifarzoo.data.features import feature_loaders
from cifarzoo.data.loader import (
    BatchLoader,
    Loaders,
    TensorLoader,
    TensorLoaders,
    cifar10_loaders,
    cifar100_loaders,
    shapes_loaders,
)
from cifarzoo.device import resolve_device, seeded
from cifarzoo.errors import (
    InvalidTypeError,
    InvalidValueError,
    NonFiniteLossError,
    RunError,
    ScoreError,
    WeightsError,
)
from cifarzoo.evaluation.evaluate import evaluation_from_logits
from cifarzoo.evaluation.predict import class_names_of, compute_logits, require_classes
from cifarzoo.files import write_text
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.transfer import TransferClassifier
from cifarzoo.provenance import provenance
from cifarzoo.recipe import Compile, PrecisionName, Recipe, TtaName, scale_epochs
from cifarzoo.record import Evaluation, RunRecord, read_record
from cifarzoo.registry import build_from_card, build_model, model_card
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.checkpoint import names_of, read_parts
from cifarzoo.training.distributed import gather_rows, is_rank_zero, on_rank_zero, shard
from cifarzoo.training.fit import fit
from cifarzoo.training.loss import Loss
from cifarzoo.training.optim import OptimizerFactory, Schedule
from cifarzoo.validation import PositiveInt, expand_path, validate
from cifarzoo.weights import save_weights, sha256_of

__all__ = [
    "RUN_FILE",
    "WEIGHTS_FILE",
    "DataName",
    "Run",
    "ScoredRun",
    "differences",
    "load_data",
    "load_runs",
    "provenance",
    "run_settings",
    "train",
]

RUN_FILE = "run.json"
WEIGHTS_FILE = "weights.safetensors"

DataName: TypeAlias = Literal["cifar10", "cifar100", "shapes"]
_Limit = Annotated[PositiveInt, Field(ge=2)]

# The fields of a record that distinguish runs, in the order in which an error lists them.
_SETTINGS = ("name", "data", "limit", "seed", "recipe", "initial_weights", "teacher")

_N_SHAPES = (20_000, 4_000)  # training and test images of the whole data set
_HASH_DIGITS = 16


class Run(RunRecord):
    """A training run: the fields of `RunRecord`, and the trained model.

    `train` returns one. A loaded run builds its model when `model` is first used.
    """

    _model: ImageClassifier | None = None
    _folder: Path | None = None

    @property
    def model(self) -> ImageClassifier:
        """The model in the state that the recipe keeps, in evaluation mode.

        Raises:
            InvalidValueError: the run was loaded, and its model is not in the registry.
            WeightsError: the weights file is missing, damaged, or not the one that was scored.
        """
        if self._model is None:
            path = (self._folder or Path()) / WEIGHTS_FILE
            if path.is_file() and self.weights_sha256 not in (None, sha256_of(path)):
                raise WeightsError(
                    f"{path} was changed: expected SHA-256 {self.weights_sha256}, from {RUN_FILE}"
                )
            self._model = build_model(self.name, weights=path)
        return self._model

    def save(self, folder: str | Path) -> Self:
        """Write `weights.safetensors`, then `run.json`, each atomically.

        Args:
            folder: created if missing; the files of another run in it are replaced.

        Returns:
            A copy of the run with the hash of its weights file.

        Raises:
            OSError: the record cannot be written.
            WeightsError: the weights cannot be written, or are not finite.
        """
        path = expand_path("folder", folder)
        metadata = {"model": self.name, "data": self.data}
        save_weights(self.model, path / WEIGHTS_FILE, metadata=metadata)
        saved = self.replace(weights_sha256=sha256_of(path / WEIGHTS_FILE))
        write_text(path / RUN_FILE, saved.to_json())
        return saved

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a run that `save` wrote.

        Args:
            folder: holds `run.json` and, if the model is needed, `weights.safetensors`.

        Raises:
            RunError: `run.json` is missing or damaged.
        """
        path = expand_path("folder", folder)
        if not (path / RUN_FILE).is_file():
            raise RunError(f"folder is {path}: expected {RUN_FILE} in it; load_runs reads several")
        record = read_record(path / RUN_FILE)
        run = cls(**{field.name: getattr(record, field.name) for field in fields(record)})
        run._folder = path
        return run

    def replace(self, **changes: Any) -> Self:  # noqa: ANN401 - any fields
        """Return a copy with other values of some fields and the same model."""
        changed = replace(self, **changes)
        changed._model, changed._folder = self._model, self._folder
        return changed


class ScoredRun(Run):
    """A run with a test score, as `train` returns it for data with a test set."""

    test: Evaluation


def load_runs(folder: str | Path) -> list[Run]:
    """Load runs that differ only in their seeds, such as `compare` takes.

    Args:
        folder: the folder of one run, or one with a subfolder per run, as `cifarzoo train NAME
            --seeds 0,1,2 --out FOLDER` writes it.

    Returns:
        The runs, sorted by seed.

    Raises:
        RunError: there is no run, a record is damaged, or runs differ in more than their seeds.
    """
    path = expand_path("folder", folder)
    files = [*path.glob(RUN_FILE), *path.glob(f"*/{RUN_FILE}")]
    if not files:
        raise RunError(f"folder is {path}: expected {RUN_FILE} in it or in its subfolders")
    runs = sorted((Run.load(file.parent) for file in files), key=lambda run: run.seed)
    for first, second in itertools.pairwise(runs):
        changed = differences(first, {name: getattr(second, name) for name in _SETTINGS})
        if [*changed] != ["seed"]:
            what = "; ".join(changed.values()) or f"seed {first.seed} appears twice"
            raise RunError(f"the runs in {path} differ in more than their seeds: {what}")
    return runs


class TrainOptions(TypedDict, total=False):
    """The other arguments of `train`, for the type checker."""

    root: str | Path | None
    recipe: Recipe | str | None
    epochs: int | None
    weights: str | Path | None
    seed: int
    limit: int | None
    num_classes: int | None
    device: str | torch.device
    precision: PrecisionName
    tta: TtaName
    loss: Loss | None
    optimizer: OptimizerFactory | None
    schedule: Schedule | None
    checkpoint: str | Path | None
    compile: Compile
    progress: bool
    callbacks: Sequence[Callback]
    download: bool


@overload
def train(
    name: str | ModelCard, *, data: DataName | TensorLoaders = ..., **options: Unpack[TrainOptions]
) -> ScoredRun: ...


@overload
def train(name: str | ModelCard, *, data: Loaders, **options: Unpack[TrainOptions]) -> Run: ...


@torch.inference_mode(False)
def train(
    name: str | ModelCard,
    *,
    data: DataName | Loaders = "cifar10",
    root: str | Path | None = None,
    recipe: Recipe | str | None = None,
    epochs: int | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
    loss: Loss | None = None,
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule | None = None,
    checkpoint: str | Path | None = None,
    compile: Compile = "auto",  # noqa: A002 - as in torch
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    download: bool = True,
) -> Run:
    """Train a model by its card's recipe, and score it.

    The validation split chooses the state that is kept; the test set is scored once, at the end,
    in float32.

    Args:
        name: one of `list_models()`, or a card of your own.
        data: "cifar10", "cifar100", "shapes" (built in, no download), or your own loaders; the
            run's recipe then has their batch size and augmentation.
        root: folder with the data; None for that in the environment variable `CIFARZOO_DATA`, or
            else the user's cache folder.
        recipe: a `Recipe`, or the tag of one of the card's recipes, such as "long"; None for the
            first of them. Change single settings with `dataclasses.replace`.
        epochs: scales the recipe to this number of epochs, with its warm-up; None keeps it.
        weights: where training starts, as in `build_model`; None for the card's `initial_weights`,
            or for random ones if it has none.
        seed: seeds initial weights, order, augmentation and dropout; 0 or more.
        limit: how many training images (including those for validation) and how many test images
            of a named data set to use, 2 or more; None for all.
        num_classes: length of the logits, 1 or more; None for the number of classes that the data
            names, and 10 without names.
        device: "auto", or what `torch.device` takes.
        precision: "auto" trains in bfloat16 where the device is faster in it, otherwise float32.
        tta: test-time augmentation for a second test score, `Run.test_tta`, as in `evaluate`;
            "none" skips that score.
        loss: as in `fit`; the record's note names it, as it does the next two and a transform.
        optimizer: as in `fit`.
        schedule: as in `fit`.
        checkpoint: file that holds the state of the run; if it exists, the run resumes from it.
        compile: as in `fit`.
        progress: whether to show a progress bar.
        callbacks: observers of the run.
        download: whether to download the data and a backbone's published weights if missing.

    Returns:
        The trained model, its history and its scores.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another run.
        CifarZooError: the errors of `build_model`, `load_data` and `fit`.
        ScoreError: training succeeded, but scoring did not; the run is the error's `run`.

    Example:
        >>> run = train("report_baseline", data="shapes")  # doctest: +SKIP
        >>> run.test.accuracy, run.test.interval  # doctest: +SKIP
    """
    if isinstance(name, nn.Module):
        raise InvalidTypeError(
            f"name is a {type(name).__name__}: expected a model's name or a ModelCard; train a "
            "module with fit(model, loaders, recipe)"
        )
    card = name if isinstance(name, ModelCard) else model_card(name)
    validate("recipe", recipe, InstanceOf[Recipe] | str | None)
    if not isinstance(recipe, Recipe):
        recipe = card.recipe if recipe is None else card.recipe_for(recipe)
    if epochs is not None:
        recipe = scale_epochs(recipe, validate("epochs", epochs, PositiveInt))
    if isinstance(data, Loaders):
        if limit is not None:
            raise InvalidValueError(f"limit is {limit}: expected None with your own loaders")
        recipe = _with_settings_of(data, recipe)
    validate("tta", tta, TtaName)
    target, origin = resolve_device(device), provenance(device, precision)
    weights = card.initial_weights if weights is None else weights
    settings = run_settings(card, recipe, weights, data=data, seed=seed, limit=limit)
    _warn_of_seen_images(card, recipe, weights, data)
    path = None if checkpoint is None else expand_path("checkpoint", checkpoint)
    parts = [] if path is None else on_rank_zero(lambda: read_parts(path))
    if isinstance(data, Loaders):
        loaders = data
    else:
        loaders = load_data(data, recipe, root=root, seed=seed, limit=limit, download=download)
    if num_classes is None:
        names = class_names_of(loaders.train, None, None)
        num_classes = 10 if names is None else len(names)
    require_classes(loaders.train, num_classes)
    with seeded(seed):
        model = build_from_card(card, weights, num_classes, download=download)
        teacher = None
        if source := recipe.distillation:
            teacher = build_model(source.teacher, weights=source.weights, num_classes=num_classes)
    for name in ("mixing", "distillation", "image_sizes"):
        if isinstance(model, TransferClassifier) and getattr(recipe, name):
            raise InvalidValueError(
                f"the recipe of {card.name} has {name}: transfer models do not support it"
            )
    trained: nn.Module = model
    batches = loaders
    if isinstance(model, TransferClassifier):
        frozen, trained = model.split()
        show = progress and is_rank_zero()
        batches = feature_loaders(
            frozen, loaders, device=target, precision=precision, progress=show
        )
    try:
        history = fit(
            trained,
            batches,
            recipe,
            device=target,
            precision=precision,
            seed=seed,
            teacher=teacher,
            checkpoint=path,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
            initial_weights=settings["initial_weights"],
            compile=compile,
            progress=progress,
            callbacks=callbacks,
            provenance=f"{origin.source}, {origin.machine}",
        )
    except NonFiniteLossError as error:
        error.model = model.eval()
        raise
    # A transfer model is scored on images as well, since its features may be bfloat16.
    ordered = loaders.train.in_order() if isinstance(loaders.train, TensorLoader) else None
    model.class_names = class_names_of(loaders.train, None, num_classes)
    transform = getattr(loaders.train, "transform", None)
    custom = names_of(
        {"loss": loss, "optimizer": optimizer, "schedule": schedule, "transform": transform}
    )
    settings |= {
        "params": count_params(model),
        "trainable_params": count_params(model, trainable_only=True),
        "history": history,
        "provenance": provenance(device, precision),
        "earlier_parts": tuple(parts),
        "note": "; ".join(f"{key} {value}" for key, value in custom.items() if value),
    }
    scores: dict[str, Any] = dict.fromkeys(("train", "val", "test", "test_tta"))
    try:
        scores["train"] = _score(model, ordered, target)
        scores["val"] = _score(model, loaders.val, target)
        scores["test"] = _score(model, loaders.test, target)
        if tta != "none":
            scores["test_tta"] = _score(model, loaders.test, target, tta)
    except Exception as error:  # the caller's loaders may raise anything
        unscored = Run(**settings, **scores)
        unscored._model = model
        raise ScoreError(f"the model is trained, but not scored: {error}", unscored) from error
    run = (Run if loaders.test is None else ScoredRun)(**settings, **scores)
    run._model = model
    return run


def _with_settings_of(loaders: Loaders, recipe: Recipe) -> Recipe:
    """Return the recipe with what the caller's loaders determine, as the record has to say."""
    train = loaders.train
    size = getattr(train, "batch_size", None) or recipe.batch_size
    augmentation = train.augmentation if isinstance(train, TensorLoader) else None
    if recipe.accumulate > size:
        raise InvalidValueError(
            f"accumulate is {recipe.accumulate}: expected at most the batch size of loaders.train, "
            f"{size}"
        )
    if (size, augmentation) != (recipe.batch_size, recipe.augmentation):
        warnings.warn(
            f"batch_size is {size} and augmentation {augmentation} in loaders.train, which is "
            f"used; {recipe.batch_size} and {recipe.augmentation} in the recipe",
            stacklevel=4,
        )
    val_fraction = 0.0 if loaders.val is None else recipe.val_fraction
    return replace(recipe, batch_size=size, augmentation=augmentation, val_fraction=val_fraction)


def _warn_of_seen_images(
    card: ModelCard, recipe: Recipe, weights: str | Path | None, data: DataName | Loaders
) -> None:
    """Warn if the teacher or the initial weights were trained on images held out here."""
    initial = None if weights is None else card.weights_for(str(weights))
    sources = [("the initial weights were", initial)]
    if teacher := recipe.distillation:
        sources += [("the teacher was", model_card(teacher.teacher).weights_for(teacher.weights))]
    for what, source in sources:
        if source and source.run.data == data and source.recipe.val_fraction < recipe.val_fraction:
            warnings.warn(
                f"{what} trained on images of the validation split: its scores are optimistic "
                "and cannot select the best state; set recipe.val_fraction=0",
                stacklevel=4,
            )


def run_settings(
    card: ModelCard,
    recipe: Recipe,
    weights: str | Path | None,
    *,
    data: DataName | Loaders,
    seed: int,
    limit: int | None,
) -> dict[str, Any]:
    """Return the fields of a `RunRecord` that determine the run; None means random weights."""
    teacher = None
    if source := recipe.distillation:
        label = _weights_label(model_card(source.teacher), source.weights)
        teacher = f"{source.teacher}-{label}"
    return {
        "name": card.name,
        "data": data if isinstance(data, str) else "custom",
        "limit": limit,
        "seed": seed,
        "recipe": recipe,
        "initial_weights": None if weights is None else _weights_label(card, weights),
        "teacher": teacher,
    }


def _weights_label(card: ModelCard, weights: str | Path) -> str:
    """Return the tag of weights, or the name of their file, with the start of their hash."""
    packaged = card.weights_for(str(weights))
    if packaged is not None:
        return f"{packaged.tag} {packaged.sha256[:_HASH_DIGITS]}"
    path = expand_path("weights", weights)
    return f"{path.name} {sha256_of(path)[:_HASH_DIGITS]}" if path.is_file() else str(weights)


def differences(run: RunRecord, options: Mapping[str, Any]) -> dict[str, str]:
    """Return how a run differs from `run_settings`, as "a, not b" by name."""
    pairs = {name: (getattr(run, name), value) for name, value in options.items()}
    recipe, other = pairs.pop("recipe")
    pairs |= {name: (value, getattr(other, name)) for name, value in vars(recipe).items()}
    return {
        name: f"{name} {'none' if a is None else a}, not {'none' if b is None else b}"
        for name, (a, b) in pairs.items()
        if a != b
    }


def _score(
    model: nn.Module,
    data: BatchLoader | None,
    device: torch.device,
    tta: TtaName = "none",
) -> Evaluation | None:
    """Return the score in float32; several processes share the work."""
    if data is None:
        return None
    share = shard(data)
    logits, labels = compute_logits(model, share, device=device, dtype=torch.float32, tta=tta)
    if share is not data:
        logits, labels = gather_rows(logits), gather_rows(labels)
    names = class_names_of(data, model, logits.shape[1])
    return evaluation_from_logits(logits, labels, tta=tta, class_names=names)


def load_data(
    data: DataName,
    recipe: Recipe,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    download: bool = True,
) -> TensorLoaders:
    """Load a data set with the batch size, validation split and augmentation of a recipe.

    Args:
        data: "cifar10", "cifar100" or "shapes".
        recipe: the training settings.
        root: folder with the data, as in `train`.
        seed: seeds order and augmentation.
        limit: how many training images (including those for validation) and how many test images
            to use, 2 or more; None for all.
        download: whether to download the data if it is missing.

    Raises:
        InvalidValueError: the data set is unknown, or limit is below 2.
        DataNotFoundError: the data is missing and could not be downloaded.
    """
    validate("data", data, DataName)
    validate("limit", limit, _Limit | None)
    if data == "shapes":
        n_train, n_test = (n if limit is None else min(limit, n) for n in _N_SHAPES)
        return shapes_loaders(recipe=recipe, n_train=n_train, n_test=n_test, seed=seed)
    load = cifar10_loaders if data == "cifar10" else cifar100_loaders
    loaders = load(recipe=recipe, root=root, seed=seed, download=download)
    if limit is None:
        return loaders
    n_val = round(limit * recipe.val_fraction)
    return TensorLoaders(
        loaders.train.first(limit - n_val),
        None if loaders.val is None else loaders.val.first(max(1, n_val)),
        loaders.test.first(limit),
    )
