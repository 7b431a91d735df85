"""The report's experiments, and the figures that it gives for them, as data."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cifarzoo.errors import OptionError, one_of
from cifarzoo.models.report import BASELINE, MODEL2, Layout, report_model
from cifarzoo.registry import bare_card
from cifarzoo.spec import ModelCard, Recipe

__all__ = [
    "ABLATION",
    "BASELINE_KEY",
    "EXPERIMENTS",
    "Experiment",
    "FILTERS_KEY",
    "Reported",
    "experiment_of",
    "find_experiments",
]

BASELINE_KEY = "baseline"
FILTERS_KEY = "filters"  # the pictures of tasks 4b and 4c: nothing is trained for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What the report prints of a run: one run, so without a standard deviation.

    Attributes:
        train_loss: over the training images, in nats; None where the report gives none.
        train_accuracy: over the training images, in [0, 1].
        val_accuracy: over the validation split, in [0, 1].
        test_accuracy: over the test set, in [0, 1].
        steps: optimizer steps until it stopped.
    """

    train_loss: float | None
    train_accuracy: float
    val_accuracy: float
    test_accuracy: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One thing that is trained, over several seeds.

    Attributes:
        key: begins the names of its files; lower case, digits and underscores.
        title: what tables call it.
        task: of the report, such as "3b".
        card: how it is built and trained.
        reported: the report's figures; None where it gives none.
        says: what the report says of it in words; empty where it says nothing.

    Raises:
        OptionError: the key is not an identifier in lower case.
    """

    key: str
    title: str
    task: str
    card: ModelCard
    reported: Reported | None = None
    says: str = ""

    def __post_init__(self) -> None:
        if re.fullmatch(r"[a-z][a-z0-9_]*", self.key) is None:
            raise OptionError(
                f"key is {self.key!r}; allowed: lower-case letters, digits and underscores, a "
                "letter first"
            )


def _changed(
    base: str, key: str, title: str, *, layout: Layout | None = None, recipe: Recipe | None = None
) -> ModelCard:
    """Give a card of the zoo with another network or recipe."""
    card = bare_card(base)
    builder = card.builder if layout is None else functools.partial(report_model, layout)
    return replace(
        card, name=key, summary=title, builder=builder, recipe=recipe or card.recipe, weights=()
    )


def _ablation(
    change: str,
    title: str,
    says: str,
    *,
    layout: Layout | None = None,
    recipe: Recipe | None = None,
) -> Experiment:
    """Change one thing about the baseline."""
    key = f"ablation_{change}"
    card = _changed("report_baseline", key, title, layout=layout, recipe=recipe)
    return Experiment(key=key, title=title, task="3c", card=card, says=says)


_RECIPE = bare_card("report_baseline").recipe

ABLATION = (
    _ablation(
        "batch_norm",
        "batch norm in the blocks",
        "the greatest improvement; faster and more stable learning",
        layout=replace(BASELINE, block_norm="batch"),
    ),
    _ablation(
        "twice_filters",
        "twice the filters",
        "better: the baseline was underfitted",
        layout=replace(BASELINE, filters=(64, 128, 256)),
    ),
    _ablation(
        "half_filters",
        "half the filters",
        "worse: more underfitting",
        layout=replace(BASELINE, filters=(16, 32, 64)),
    ),
    _ablation(
        "dropout",
        "dropout of 10 % after each block",
        "better: reduces overfitting, and stopping too early",
        layout=replace(BASELINE, dropout=0.1),
    ),
    _ablation(
        "extra_block",
        "a fourth block (256 filters, maps of 2×2)",
        "worse: maps of 2×2 are too small",
        layout=replace(BASELINE, filters=(32, 64, 128, 256)),
    ),
    _ablation(
        "extra_linear",
        "a second hidden layer (64 units)",
        "worse: overfitting in the classifier",
        layout=replace(BASELINE, hidden=(64, 64)),
    ),
    _ablation(
        "batch_32",
        "batches of 32 instead of 64",
        "better (with batch norm and twice the filters)",
        recipe=replace(_RECIPE, batch_size=32),
    ),
    _ablation(
        "batch_128",
        "batches of 128 instead of 64",
        "",
        recipe=replace(_RECIPE, batch_size=128),
    ),
)

_BASELINE = Experiment(
    key=BASELINE_KEY,
    title="Baseline",
    task="2",
    card=bare_card("report_baseline"),
    reported=Reported(
        train_loss=None,
        train_accuracy=0.8353,
        val_accuracy=0.7344,
        test_accuracy=0.7251,
        steps=5265,
    ),
)
_MODEL1 = Experiment(
    key="model1",
    title="Model 1",
    task="3b",
    card=bare_card("report_model1"),
    reported=Reported(
        train_loss=0.4064,
        train_accuracy=0.8647,
        val_accuracy=0.7554,
        test_accuracy=0.7522,
        steps=6327,
    ),
)
_MODEL2 = Experiment(
    key="model2",
    title="Model 2",
    task="3b",
    card=bare_card("report_model2"),
    reported=Reported(
        train_loss=0.3024,
        train_accuracy=0.8935,
        val_accuracy=0.7954,
        test_accuracy=0.7907,
        steps=7020,
    ),
)
_MODEL2_WITHOUT_NORM = Experiment(
    key="model2_without_batch_norm",
    title="Model 2 without batch norm",
    task="3d",
    card=_changed(
        "report_model2",
        "model2_without_batch_norm",
        "Model 2 without batch norm",
        layout=replace(MODEL2, block_norm="none"),
    ),
    says="75 % test accuracy before batch norm, 79 % with it",
)
_BEST = Experiment(
    key="best",
    title="Best model",
    task="3e",
    card=bare_card("report_best"),
    reported=Reported(
        train_loss=0.2189,
        train_accuracy=0.9242,
        val_accuracy=0.8148,
        test_accuracy=0.8117,
        steps=6669,
    ),
)
_TRANSFER = Experiment(
    key="resnet18_transfer",
    title="ResNet-18, transfer",
    task="4a",
    card=bare_card("resnet18_transfer"),
    reported=Reported(
        train_loss=0.0739,
        train_accuracy=0.9754,
        val_accuracy=0.8988,
        test_accuracy=0.8872,
        steps=6327,
    ),
)

_WIDE = ABLATION[1]
# Cheapest first: a report that is interrupted has as much to show as it can.
EXPERIMENTS = (
    _BASELINE,
    _MODEL2,
    _MODEL2_WITHOUT_NORM,
    *(experiment for experiment in ABLATION if experiment is not _WIDE),
    _WIDE,
    _MODEL1,
    _BEST,
    _TRANSFER,
)
_BY_KEY = {experiment.key: experiment for experiment in EXPERIMENTS}


def experiment_of(key: str) -> Experiment:
    """Give the experiment of that key.

    Raises:
        OptionError: there is none; the message gives the closest.
    """
    if key not in _BY_KEY:
        raise one_of("experiment", key, _BY_KEY)
    return _BY_KEY[key]


def find_experiments(keys: Iterable[str] | None) -> tuple[Experiment, ...]:
    """Give the experiments of those keys, cheapest first; None gives them all.

    Raises:
        OptionError: a key is not known, or there is none.
    """
    if keys is None:
        return EXPERIMENTS
    wanted = {experiment_of(key).key for key in ([keys] if isinstance(keys, str) else keys)}
    if not wanted:
        raise OptionError(f"there is no experiment to run; allowed: {', '.join(_BY_KEY)}")
    return tuple(experiment for experiment in EXPERIMENTS if experiment.key in wanted)
