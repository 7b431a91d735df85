"""
The report's experiments, as data
=================================

Each network that the report trains, and each change to the baseline that task 3c discusses, is a
:class:`~cifarzoo.ModelCard`: a builder and a recipe. It is stored with the figures and the claim
that the report gives. The pages of the tasks and the page of the whole report read them from here.

A variation of a model takes two lines: :func:`dataclasses.replace` with another builder for another
network, or ``card.with_recipe`` for another recipe. Pass the result to :func:`~cifarzoo.train`.

.. code-block:: sh

    python examples/experiments.py     # lists the experiments
"""

# sphinx_gallery_thumbnail_path = "recorded/task3_ablation/task3c.webp"
from dataclasses import dataclass, replace
from functools import partial

import efficientnet_lite0

import cifarzoo as zoo
from cifarzoo.models.report import report_model


@dataclass(frozen=True)
class Figures:
    """What the report prints for one run: loss in nats, accuracies in [0, 1]."""

    train_loss: float | None
    train: float
    val: float
    test: float
    steps: int


@dataclass(frozen=True)
class Experiment:
    """A model that is trained over several seeds.

    Attributes:
        key: start of the names of its files.
        title: for tables.
        task: of the report.
        card: how it is built and trained.
        reported: the report's figures; None if it gives none.
        claim: what the report says about it in words; empty if nothing.
    """

    key: str
    title: str
    task: str
    card: zoo.ModelCard
    reported: Figures | None = None
    claim: str = ""


BASELINE = zoo.model_card("report_baseline")


def change(key: str, title: str, claim: str, **network: object) -> Experiment:
    """Return the baseline with one change to its network, or with another batch size."""
    card = replace(BASELINE, name=f"ablation_{key}", summary=title, weights=())
    if "batch_size" in network:
        card = card.with_recipe(replace(BASELINE.recipe, **network))  # type: ignore[arg-type]
    else:
        card = replace(card, builder=partial(report_model, **network))  # type: ignore[arg-type]
    return Experiment(card.name, title, "3c", card, claim=claim)


ABLATION = (
    change("batch_norm", "batch norm", "helped most: faster, more stable", batch_norm=True),
    change(
        "twice_filters", "twice the filters", "helped: less underfitting", filters=(64, 128, 256)
    ),
    change("half_filters", "half the filters", "hurt: more underfitting", filters=(16, 32, 64)),
    change("dropout", "dropout of 10 %", "helped: less overfitting", dropout=0.1),
    change(
        "extra_block",
        "a fourth block",
        "hurt: maps of 2×2 are too small",
        filters=(32, 64, 128, 256),
    ),
    change(
        "extra_linear", "a second hidden layer", "hurt: the classifier overfits", hidden=(64, 64)
    ),
    change("batch_32", "batches of 32", "helped, with the first two changes", batch_size=32),
    change("batch_128", "batches of 128", "", batch_size=128),
)

MODEL1, MODEL2, BEST = map(zoo.model_card, ("report_model1", "report_model2", "report_best"))
RESNET18 = zoo.model_card("resnet18_transfer")
WITHOUT_NORM = replace(
    MODEL2,
    name="model2_without_batch_norm",
    builder=partial(report_model, kernel_size=3, convs_per_block=2, dropout=0.1),
    weights=(),
)
MORE_DROPOUT = replace(
    BEST,
    name="best_dropout_30",
    builder=partial(
        report_model,
        filters=(128, 128, 256),
        kernel_size=3,
        convs_per_block=2,
        batch_norm=True,
        dropout=0.3,
        head_norm=True,
    ),
    weights=(),
)
MODELS = (
    Experiment("baseline", "Baseline", "2", BASELINE, Figures(None, 0.8353, 0.7344, 0.7251, 5265)),
    Experiment("model1", "Model 1", "3b", MODEL1, Figures(0.4064, 0.8647, 0.7554, 0.7522, 6327)),
    Experiment("model2", "Model 2", "3b", MODEL2, Figures(0.3024, 0.8935, 0.7954, 0.7907, 7020)),
    Experiment(
        WITHOUT_NORM.name,
        "Model 2 without batch norm",
        "3d",
        WITHOUT_NORM,
        claim="75 % test accuracy before batch norm, 79 % with it",
    ),
    Experiment("best", "Best model", "3e", BEST, Figures(0.2189, 0.9242, 0.8148, 0.8117, 6669)),
    Experiment(
        MORE_DROPOUT.name,
        "Best model, dropout of 30 %",
        "3f",
        MORE_DROPOUT,
        claim="validation loss follows the training loss longer, lower test accuracy",
    ),
    Experiment(
        RESNET18.name,
        "ResNet-18, transfer",
        "4a",
        RESNET18,
        Figures(0.0739, 0.9754, 0.8988, 0.8872, 6327),
    ),
)

# Not in the report: its ImageNet weights come in a Python package and need no download server.
LITE0 = efficientnet_lite0.CARD
STAND_IN = Experiment(LITE0.name, "EfficientNet-Lite0, transfer", "4a", LITE0)

# Baseline and model 2 again, under the same conditions as what tasks 3c and 3d compare them with.
NO_CHANGE = Experiment("ablation_none", "No change", "3c", BASELINE)
WITH_NORM = Experiment("model2_with_batch_norm", "Model 2 with batch norm", "3d", MODEL2)
CONTROLS = (NO_CHANGE, WITH_NORM)

EXPERIMENTS = {each.key: each for each in (*MODELS, *CONTROLS, *ABLATION, STAND_IN)}

if __name__ == "__main__":
    for each in EXPERIMENTS.values():
        test = f"{each.reported.test:.2%}" if each.reported else each.claim
        print(f"{each.task:<3} {each.key:<28} {test}")
