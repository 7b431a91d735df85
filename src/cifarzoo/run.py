"""One card, end to end: build, load, fit, evaluate."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args, overload

import torch
from torch import nn

from cifarzoo.data.features import MEMORY_LIMIT_BYTES, TensorFeatureLoader, feature_loaders
from cifarzoo.data.loaders import (
    BatchLoader,
    Loaders,
    TensorLoader,
    cifar10_loaders,
    shapes_loaders,
)
from cifarzoo.errors import NonFiniteLossError, OptionError, WeightsError, one_of, wrong_kind
from cifarzoo.evaluation.evaluate import Evaluation, evaluation_of
from cifarzoo.evaluation.predict import scored
from cifarzoo.hardware import resolve_device, seeded
from cifarzoo.models.backbone import TransferClassifier, split_frozen
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.processes import this_team
from cifarzoo.registry import ModelName, bare_card, build_from_card, model_card
from cifarzoo.spec import ModelCard, PrecisionName, Recipe, TtaName
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.fit import fit
from cifarzoo.training.history import History
from cifarzoo.training.selection import Proxy

__all__ = ["DataName", "Fitted", "Run", "fit_card", "load_data", "networks_of", "train"]

DataName: TypeAlias = Literal["cifar10", "shapes"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A finished training run.

    Attributes:
        card: what was trained, with the recipe that was used.
        seed: of initial weights, order, augmentation and dropout, 0 or more.
        model: in the state that the recipe keeps, in evaluation mode.
        history: check by check.
        train: score over all training images, unaugmented; None for foreign loaders.
        val: score over the validation split; None where there is none.
        test: score over the test set, single view, looked at once; None where there is none.
        test_tta: score over the same images with test-time augmentation; None where none was
            asked for, or there is no test set.
    """

    card: ModelCard
    seed: int
    model: ImageClassifier
    history: History
    train: Evaluation | None
    val: Evaluation | None
    test: Evaluation | None
    test_tta: Evaluation | None


def load_data(
    data: str,
    recipe: Recipe,
    *,
    root: str | Path | None,
    seed: int,
    download: bool,
    device: str | torch.device = "auto",
) -> Loaders:
    """Load a data set by name, onto the device, batched, split and augmented as the recipe says.

    Raises:
        OptionError: no data set has that name; and what the loaders raise.
    """
    if data not in get_args(DataName):
        raise one_of("data set", data, get_args(DataName))
    if data == "shapes" and root is not None:
        raise OptionError(f"root is {root}, but the shapes are drawn, not read; leave it out")
    target = resolve_device(device)
    if data == "shapes":
        return shapes_loaders(
            recipe.batch_size,
            val_fraction=recipe.val_fraction,
            augmentation=recipe.augmentation,
            seed=seed,
            device=target,
        )
    return cifar10_loaders(
        recipe.batch_size,
        root=root,
        val_fraction=recipe.val_fraction,
        augmentation=recipe.augmentation,
        seed=seed,
        device=target,
        download=download,
    )


@overload
def train(
    name: ModelName,
    *,
    data: DataName | Loaders = "cifar10",
    root: str | Path | None = None,
    recipe: Recipe | str | None = None,
    weights: str | Path | None = None,
    num_classes: int = 10,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    download: bool = True,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Run: ...
@overload
def train(
    name: str | ModelCard,
    *,
    data: str | Loaders = "cifar10",
    root: str | Path | None = None,
    recipe: Recipe | str | None = None,
    weights: str | Path | None = None,
    num_classes: int = 10,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    download: bool = True,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Run: ...
def train(
    name: str | ModelCard,
    *,
    data: str | Loaders = "cifar10",
    root: str | Path | None = None,
    recipe: Recipe | str | None = None,
    weights: str | Path | None = None,
    num_classes: int = 10,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    tta: TtaName = "none",
    checkpoint: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    download: bool = True,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> Run:
    """Train a model by its card's recipe, and score it.

    The validation split chooses the state; the test set is scored once, at the end. With test-time
    augmentation it is scored a second time, which changes no other figure.

    Args:
        name: one of `list_models()`, or a card of your own.
        data: "cifar10", "shapes" (built in, no download), or loaders of your own, which then
            decide on batch size and augmentation.
        root: where CIFAR-10 is; None looks in `CIFARZOO_DATA`, else in the user's cache folder.
        recipe: instead of the card's own: the tag of another one of the card's, such as "long",
            or one of yours; vary the card's with `dataclasses.replace`.
        weights: where to start from: a tag of the card's or a file; None takes the card's
            `initial_weights`, else random ones.
        num_classes: length of the logits, 1 or more; 10 for the data sets that have a name here.
        seed: of initial weights, order, augmentation and dropout, 0 or more.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device is faster in it.
        tta: test-time augmentation of that second score, which `Run.test_tta` holds: "flip" or
            "flip_translate"; "none" leaves it out.
        checkpoint: a file to keep the run's state in, and to go on from if it is there.
        progress: whether to show a progress bar.
        callbacks: what looks on.
        download: fetch CIFAR-10, and a backbone's published weights, where they are not found.
        memory_limit_bytes: of a transfer model's features, which are computed once and kept;
            those that do not fit are computed anew in every epoch.

    Returns:
        The trained model in evaluation mode, its history and its scores.

    Raises:
        OptionError: a name or value is not known.
        UnknownModelError: no model has that name.
        CifarZooError: what `build_model`, the loaders, `fit` and `evaluate` raise.
    """
    if not isinstance(data, str | Loaders):
        raise wrong_kind("data", data, f"one of {', '.join(get_args(DataName))}, or Loaders(...)")
    if tta not in get_args(TtaName):
        raise one_of("tta", tta, get_args(TtaName))
    if num_classes != 10 and not isinstance(data, Loaders):
        raise OptionError(
            f"num_classes is {num_classes}, but {data!r} has 10 classes; leave it out, or give "
            "loaders of your own as data"
        )
    if isinstance(name, ModelCard):
        card = name
    else:
        card = bare_card(name) if weights is None else model_card(name)
    if isinstance(recipe, str):
        recipe = card.recipe_for(recipe)
    elif not isinstance(recipe, Recipe | None):
        raise wrong_kind("recipe", recipe, "Recipe(...), a tag of the card's recipes, or None")
    card = card if recipe is None else replace(card, recipe=recipe)
    loaders = (
        data
        if isinstance(data, Loaders)
        else load_data(data, card.recipe, root=root, seed=seed, download=download, device=device)
    )
    fitted = fit_card(
        card,
        loaders,
        weights=weights,
        num_classes=num_classes,
        seed=seed,
        device=device,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
        callbacks=callbacks,
        download=download,
        memory_limit_bytes=memory_limit_bytes,
    )
    batches = fitted.batches
    score = functools.partial(_score, fitted.trained, device=device, precision=precision)
    views = None  # of the images themselves: the features of a frozen part cannot be flipped
    if tta != "none" and loaders.test is not None:
        views = _score(fitted.model, loaders.test, device=device, precision=precision, tta=tta)
    whole = None  # a torch DataLoader has an `in_order` too, which means something else
    if isinstance(batches.train, TensorLoader | TensorFeatureLoader):
        whole = batches.train.in_order()
    return Run(
        card=card,
        seed=seed,
        model=fitted.model,
        history=fitted.history,
        train=None if whole is None else score(whole),
        val=None if batches.val is None else score(batches.val),
        test=None if batches.test is None else score(batches.test),
        test_tta=views,
    )


def _score(
    model: nn.Module,
    data: BatchLoader,
    *,
    device: str | torch.device,
    precision: PrecisionName,
    tta: TtaName = "none",
) -> Evaluation:
    """Evaluate; of several processes each runs its share of the images, and all get the score."""
    team = this_team()
    share = team.share(data)
    logits, labels = scored(model, share, device=device, precision=precision, tta=tta)
    if share is not data:
        logits, labels = torch.cat(team.gathered(logits)), torch.cat(team.gathered(labels))
    return evaluation_of(logits, labels, tta=tta)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A model that was trained and not scored.

    Attributes:
        model: the whole, in evaluation mode.
        trained: the part of it that was fitted.
        batches: what that part was fitted on.
        history: check by check.
    """

    model: ImageClassifier
    trained: nn.Module
    batches: Loaders
    history: History


def fit_card(
    card: ModelCard,
    loaders: Loaders,
    *,
    weights: str | Path | None = None,
    num_classes: int = 10,
    seed: int,
    device: str | torch.device,
    precision: PrecisionName,
    checkpoint: str | Path | None,
    progress: bool,
    callbacks: Sequence[Callback],
    download: bool,
    memory_limit_bytes: int,
) -> Fitted:
    """Build and train a model as `train` does, and score nothing; the arguments are its."""
    with seeded(seed):
        model, teacher, proxy = networks_of(card, weights, num_classes, download=download)
    trained, batches = _trained_part(
        model,
        loaders,
        device=device,
        precision=precision,
        memory_limit_bytes=memory_limit_bytes,
        progress=progress and this_team().leads,
    )
    try:
        history = fit(
            trained,
            batches,
            card.recipe,
            device=device,
            precision=precision,
            seed=seed,
            teacher=teacher,
            proxy=proxy,
            checkpoint=checkpoint,
            progress=progress,
            callbacks=callbacks,
        )
    except NonFiniteLossError as error:
        error.model = model.eval()  # the caller has no other way to its best state
        raise
    return Fitted(model=model.eval(), trained=trained, batches=batches, history=history)


def networks_of(
    card: ModelCard, weights: str | Path | None, num_classes: int, *, download: bool
) -> tuple[ImageClassifier, nn.Module | None, Proxy | None]:
    """Build what takes part in a training: the model, and its recipe's teacher and proxy, if any.

    Random weights are drawn from torch's global generator, which callers seed; without `weights`
    the model starts from the card's `initial_weights`, else from random ones.

    Raises:
        OptionError: the recipe asks for what such a model cannot be given.
        WeightsError: there are no such weights, or they do not fit.
        DownloadError: a backbone's weights could not be fetched.
    """
    start = card.initial_weights if weights is None else weights
    model = build_from_card(card, start, num_classes, download=download)
    _require_images(card, model)
    teacher = _teacher_of(card, num_classes, download=download)
    return model, teacher, _proxy_of(card, num_classes)


def _require_images(card: ModelCard, model: ImageClassifier) -> None:
    """Refuse a recipe that asks for what needs images, of a model that is fitted on features.

    Raises:
        OptionError: that names it.
    """
    needs = ("distillation", "mixing", "selection")
    given = [name for name in needs if getattr(card.recipe, name) is not None]
    if given and isinstance(model, TransferClassifier):
        raise OptionError(
            f"the recipe of {card.name} has {' and '.join(given)}, for which images are needed, "
            "but a transfer model is trained on its frozen part's features; use "
            + ", ".join(f"{name}=None" for name in given)
        )


def _teacher_of(card: ModelCard, num_classes: int, *, download: bool) -> nn.Module | None:
    """Build what the recipe's distillation learns from."""
    distillation = card.recipe.distillation
    if distillation is None:
        return None
    teacher, weights = distillation.teacher, distillation.weights
    try:
        return build_from_card(model_card(teacher), weights, num_classes, download=download)
    except WeightsError as error:
        raise WeightsError(f"the teacher {teacher} cannot be built: {error}") from error


def _proxy_of(card: ModelCard, num_classes: int) -> Proxy | None:
    """Build what the recipe's selection chooses by, with random weights."""
    if card.recipe.selection is None:
        return None
    proxy = model_card(card.recipe.selection.proxy)
    return Proxy(model=build_from_card(proxy, None, num_classes), recipe=proxy.recipe)


def _trained_part(
    model: ImageClassifier,
    loaders: Loaders,
    *,
    device: str | torch.device,
    precision: PrecisionName,
    memory_limit_bytes: int,
    progress: bool,
) -> tuple[nn.Module, Loaders]:
    """Give what is fitted and on what: a frozen part runs before, once where that is enough."""
    if not isinstance(model, TransferClassifier):
        return model, loaders
    frozen, trainable = split_frozen(model)
    features = feature_loaders(
        frozen,
        loaders,
        memory_limit_bytes=memory_limit_bytes,
        device=device,
        precision=precision,
        progress=progress,
    )
    return trainable, features
