"""The runs of every model and recipe, and results published by others.

`tables.py` and the documentation's leaderboard are written from them.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cifarzoo as zoo
from cifarzoo.card import STANDARD
from cifarzoo.data import CLASS_NAMES
from cifarzoo.evaluation.statistics import mean_and_std
from cifarzoo.record import Evaluation, RunRecord, read_record

__all__ = [
    "PUBLISHED",
    "RESULTS",
    "Published",
    "Standing",
    "measured",
    "minutes",
    "percent",
    "read_folder",
    "scores_table",
    "standings",
    "table",
    "trained_on",
]

RESULTS = Path(__file__).parents[1] / "results"
_OTHER_RUNS = (".", "sprint", "zoo/without_weights")  # folders of RESULTS
_AFTER_A_TEST_SCORE = {  # recipes and a network added when the score of an earlier one was known
    ("sprint_l", "standard"),
    ("sprint_l", "long"),
    ("sprint_m", "long"),
    ("sprint_m3", "standard"),
    ("resnet20", "distilled"),
    ("resnet20", "long"),
    ("sprint_s", "standard"),
}


@dataclass(frozen=True, slots=True)
class Published:
    """A result published by others; None where a number is not stated."""

    name: str
    params: int | None
    macs: int | None  # multiply-accumulates per image
    accuracy: float  # on the test set; the lower end of a range
    source: str
    views: str = "single view"
    highest: float | None = None  # the upper end of a range

    @property
    def text(self) -> str:
        """The accuracy in percent, or its range."""
        low = f"{self.accuracy:.2%}"
        return low if self.highest is None else f"{low} to {self.highest:.2%}"


PUBLISHED = (
    Published("cifar10-tiniest (mean of 5)", None, None, 0.944, "xvel"),
    Published("DenseNet-BC-40 (k=12)", 176_122, 74_890_000, 0.9357, "pytorchcv"),
    Published("ResNet-20", 272_474, 41_290_000, 0.9403, "pytorchcv"),
    Published("ResNet-20", 272_474, 41_290_000, 0.9260, "chenyaofo"),
    Published("ResNet-20", 270_000, None, 0.9125, "He 2015"),
    Published("ShuffleNetV2 ×0.5", None, None, 0.9013, "chenyaofo"),
    Published("ResNet-32", None, None, 0.9353, "chenyaofo"),
    Published("ResNet-56", 855_770, 127_060_000, 0.9437, "chenyaofo"),
    Published("SE-ResNet-56", 862_889, 127_190_000, 0.9587, "pytorchcv"),
    Published("SE-ResNet-164(BN)", 1_906_258, 256_550_000, 0.9661, "pytorchcv"),
    Published("airbench94_muon", 1_972_792, None, 0.9401, "airbench", "TTA"),
    Published("MobileNetV2", None, None, 0.9379, "chenyaofo"),
    Published("airbench95", None, None, 0.9501, "airbench", "TTA"),
    Published("airbench96_faster", None, None, 0.96, "airbench", "TTA"),
    Published("PreResNet-1001", 10_327_706, 1_536_180_000, 0.9735, "pytorchcv"),
    Published("ResNet-18, 200 epochs", None, None, 0.96, "airbench", "TTA"),
    Published("ResNet-18", None, None, 0.9302, "kuangliu", highest=0.955),
    Published("ResNet-18", None, None, 0.9307, "huyvnphan"),
    Published("PyramidNet-272 (a=200, BN)", None, None, 0.9761, "pytorchcv"),
    Published("RepVGG-A2", None, None, 0.9498, "chenyaofo"),
    Published("WRN-40-8", 35_748_314, 5_176_900_000, 0.9763, "pytorchcv"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A model trained by one recipe."""

    card: zoo.ModelCard
    data: str  # name of the data set
    params: int
    macs: int  # multiply-accumulates per image
    tag: str  # of the recipe
    runs: tuple[RunRecord, ...]  # one per seed; may be empty
    weights: zoo.Weights | None  # of one of the runs, if they are in the package

    @property
    def label(self) -> str:
        """The model's name, with the recipe's tag unless that is the standard one."""
        return self.card.name if self.tag == STANDARD else f"{self.card.name} ({self.tag})"

    @property
    def recipe(self) -> zoo.Recipe:
        """The recipe of the runs."""
        return self.weights.recipe if self.weights else self.card.recipe_for(self.tag)

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds, single view; 0 without runs."""
        accuracies = [run.test.accuracy for run in self.runs if run.test]
        return statistics.fmean(accuracies) if accuracies else 0.0

    @property
    def std(self) -> float | None:
        """Standard deviation of the test accuracy over the seeds; None for one seed."""
        return mean_and_std([run.test.accuracy for run in self.runs if run.test]).std

    @property
    def mark(self) -> str:
        """A dagger if the recipe was added when the test score of an earlier one was known."""
        return "†" if (self.card.name, self.tag) in _AFTER_A_TEST_SCORE else ""

    @property
    def single_view(self) -> str:
        """The test accuracy as text, with the mark."""
        return measured([run.test for run in self.runs]) + self.mark

    @property
    def with_tta(self) -> str:
        """The test accuracy with test-time augmentation, as text, with the mark."""
        return measured([run.test_tta for run in self.runs]) + self.mark


@functools.cache
def standings() -> tuple[Standing, ...]:
    """Return a standing for every recipe that was run, and one for every model that was not run.

    Weights in the package come with the runs behind them. The runs of other recipes are read from
    `results`.
    """
    groups = [group for folder in _OTHER_RUNS for group in read_folder(RESULTS / folder).values()]
    others = [run for group in groups for run in group]
    found = []
    for name in zoo.list_models():
        card = zoo.model_card(name)
        by_tag = {weights.tag: weights.runs for weights in card.weights}
        for tag, recipe in card.recipes.items():
            runs = tuple(run for run in others if (run.name, run.recipe) == (name, recipe))
            if runs:
                by_tag.setdefault(tag, runs)
        for tag, runs in (by_tag or {STANDARD: ()}).items():
            data = runs[0].data if runs else "cifar10"
            model = zoo.build_model(name, num_classes=len(CLASS_NAMES[data]))
            standing = Standing(
                card=card,
                data=data,
                params=zoo.count_params(model),
                macs=sum(row.macs for row in zoo.layer_table(model)),
                tag=tag,
                runs=runs,
                weights=card.weights_for(tag),
            )
            found.append(standing)
    return tuple(found)


def scores_table(found: Iterable[Standing]) -> str:
    """Return the table of what is known about weights files beyond their accuracy."""
    rows = []
    for each in sorted(found, key=lambda each: -each.mean):
        weights = each.weights
        if weights is None or (scores := weights.scores) is None:
            continue
        rows.append(
            (
                f"`{each.label}`",
                f"{weights.accuracy:.2%}",
                f"{scores.unique_accuracy:.2%}",
                f"{scores.calibration_error:.2%}",
                f"{scores.scaled_calibration_error:.2%}",
                f"{scores.temperature:.3f}",
                f"{scores.corruption_accuracy:.2%}",
                f"{scores.auroc_probability:.3f}",
                f"{scores.auroc_energy:.3f}",
                f"{scores.pgd_accuracy:.2%}",
            )
        )
    header = (
        *("weights", "accuracy", "without near-duplicates", "calibration error", "scaled"),
        *("temperature", "common corruptions", "AUROC, probability", "AUROC, energy", "PGD-20"),
    )
    return table(header, rows)


def read_folder(folder: Path) -> dict[str, list[RunRecord]]:
    """Read the runs in a folder's files "KEY-seedN.json", by key, sorted by key and seed."""
    groups: dict[str, list[RunRecord]] = {}
    for path in sorted(folder.glob("*-seed*.json")):
        groups.setdefault(path.stem.rpartition("-seed")[0], []).append(read_record(path))
    return {key: sorted(groups[key], key=lambda run: run.seed) for key in sorted(groups)}


def measured(scores: Sequence[Evaluation | None]) -> str:
    """Format the accuracy of several runs, or of one with its interval; a dash if not measured."""
    known = [score for score in scores if score is not None]
    if not known or len(known) < len(scores):
        return "–"
    text = percent([score.accuracy for score in known])
    if len(known) == 1:
        low, high = known[0].interval
        text += f" ({100 * low:.2f} to {100 * high:.2f})"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def percent(values: Sequence[float]) -> str:
    """Format the mean of accuracies and, for several, their standard deviation."""
    found = mean_and_std(values)
    return f"{found.mean:.2%}" + ("" if found.std is None else f" ± {100 * found.std:.2f}")


def trained_on(runs: Sequence[RunRecord]) -> str:
    """Format the number of threads, or "GPU", and the precision of the training."""
    places = set()
    for place in (run.provenance for run in runs):
        threads = f"{place.threads} thread{'s' if place.threads != 1 else ''}"
        places.add(f"{threads if place.device == 'cpu' else 'GPU'}, {place.precision}")
    return "; ".join(sorted(places)) or "–"


def minutes(runs: Sequence[RunRecord]) -> str:
    """Format the training time in minutes, the median of the runs; a dash without runs.

    The time of a run is its median time per epoch times the number of epochs, if that is shorter
    than the measured time: other processes may have slowed down some epochs. Epochs of different
    image sizes are added up as measured.
    """
    return f"{statistics.median(map(_steady_seconds, runs)) / 60:,.1f}" if runs else "–"


def _steady_seconds(run: RunRecord) -> float:
    if run.recipe.image_sizes:
        return run.history.seconds
    points = [(0.0, 0.0), *((check.epoch, check.seconds) for check in run.history.checks)]
    epochs, seconds = np.array(points).T
    steady = np.median(np.diff(seconds) / np.diff(epochs)) * epochs[-1]
    return min(float(steady), run.history.seconds)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """Return a Markdown table; all columns but the first `left` are right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (header, rule, *rows))
