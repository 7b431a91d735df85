"""Where every model of the zoo stands, read from the cards and from results/.

The README's table of models and the documentation's leaderboard are written from it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cifarzoo as zoo
from cifarzoo.report import load_results
from cifarzoo.report.experiments import EXPERIMENTS
from cifarzoo.report.record import Record, Scores
from cifarzoo.report.recording import record_key
from cifarzoo.spec import DEFAULT_TAG

__all__ = [
    "PUBLISHED",
    "TITLE",
    "Published",
    "Standing",
    "machines_of",
    "measured",
    "percent",
    "standings",
    "trained_on",
    "training_time",
    "val_by_seed",
]

RESULTS = Path(__file__).parents[1] / "results"
OTHER_RUNS = (".", "sprint", "zoo/without_weights")  # folders of RESULTS
TITLE = "{name}, {recipe}"  # of a run that is compared with another recipe's


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that others give.

    Attributes:
        name: of the network.
        params: its parameters, as far as they say; None where they do not.
        macs: multiply-accumulates for one image; None where they do not say.
        accuracy: on the test set, in [0, 1].
        source: who says so.
        views: what it was scored with.
        highest: where they give a range, of which `accuracy` is the lower end.
    """

    name: str
    params: int | None
    macs: int | None
    accuracy: float
    source: str
    views: str = "single view"
    highest: float | None = None

    @property
    def words(self) -> str:
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
    Published("airbench94_muon", 1_972_792, None, 0.9401, "airbench", "six views"),
    Published("MobileNetV2", None, None, 0.9379, "chenyaofo"),
    Published("airbench95", None, None, 0.9501, "airbench", "six views"),
    Published("airbench96_faster", None, None, 0.96, "airbench", "six views"),
    Published("PreResNet-1001", 10_327_706, 1_536_180_000, 0.9735, "pytorchcv"),
    Published("ResNet-18, 200 epochs", None, None, 0.96, "airbench", "with TTA"),
    Published("ResNet-18", None, None, 0.9302, "kuangliu", highest=0.955),
    Published("ResNet-18", None, None, 0.9307, "huyvnphan"),
    Published("PyramidNet-272 (a=200, BN)", None, None, 0.9761, "pytorchcv"),
    Published("RepVGG-A2", None, None, 0.9498, "chenyaofo"),
    Published("WRN-40-8", 35_748_314, 5_176_900_000, 0.9763, "pytorchcv"),
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model, and the runs by one recipe.

    Attributes:
        card: of the model.
        params: its parameters.
        macs: multiply-accumulates for one image.
        tag: of the recipe.
        records: the runs, one a seed; may be empty.
        weights: that come with the package, of one of the runs; None where none do.
    """

    card: zoo.ModelCard
    params: int
    macs: int
    tag: str
    records: tuple[Record, ...]
    weights: zoo.Weights | None

    @property
    def label(self) -> str:
        """The model's name, with the recipe's tag unless that is the default."""
        return self.card.name if self.tag == DEFAULT_TAG else f"{self.card.name} ({self.tag})"

    @property
    def recipe(self) -> zoo.Recipe:
        """What the runs were trained with."""
        return self.weights.recipe if self.weights else self.card.recipe_for(self.tag)

    @property
    def accuracy(self) -> zoo.Estimate | None:
        """From a single view, over the seeds."""
        found = [record.test.accuracy for record in self.records if record.test]
        return zoo.mean_and_std(found) if found else None

    @property
    def single_view(self) -> str:
        """That accuracy in words."""
        return measured([record.test for record in self.records])

    @property
    def six_views(self) -> str:
        """With test-time augmentation; a dash unless all runs were scored with it."""
        return measured([record.test_tta for record in self.records])


def standings() -> list[Standing]:
    """Give every model in the order of the cards, once for each recipe that it was trained by.

    Packaged weights stand with the runs that they were chosen from. A card's recipe without
    weights stands with its runs in the report, in the sprint benchmark, or in
    results/zoo/without_weights, whose files had to make room for better ones; a model of which
    there is nothing at all stands for itself.
    """
    keys = {each.key: each.card.name for each in EXPERIMENTS}
    packed = _records("zoo")
    others = [each for folder in OTHER_RUNS for each in _records(folder)]
    found = []
    for name in zoo.list_models():
        card = zoo.model_card(name)
        model = zoo.build_model(name, weights=None)
        params, macs = zoo.count_params(model), sum(row.macs for row in zoo.layer_table(model))
        runs: list[tuple[str, list[Record], zoo.Weights | None]] = [
            (weights.tag, _runs_of(name, weights, packed), weights) for weights in card.weights
        ]
        for tag in reversed(card.recipe_tags):
            recipe, key = card.recipe_for(tag), record_key(name, tag)
            mine = [each for each in others if keys.get(each.key, each.key) == key]
            own = [each for each in mine if each.recipe == recipe]
            known = any(weights.recipe == recipe for weights in card.weights)
            if not known and (own or (tag == DEFAULT_TAG and not runs)):
                runs.insert(0, (tag, own, None))
        for tag, records, weights in runs:
            _require_alike(records)
            found.append(
                Standing(
                    card=card,
                    params=params,
                    macs=macs,
                    tag=tag,
                    records=tuple(records),
                    weights=weights,
                )
            )
    return found


def _records(folder: str) -> Sequence[Record]:
    path = RESULTS / folder
    return load_results(path).records if path.is_dir() else ()


def _runs_of(name: str, weights: zoo.Weights, records: Sequence[Record]) -> list[Record]:
    """Give the runs that weights were chosen from.

    Raises:
        ValueError: they are not those that the weights' description is about.
    """
    key = record_key(name, weights.tag)
    runs = [each for each in records if each.key == key and each.recipe == weights.recipe]
    if {each.seed for each in runs} != set(weights.seeds):
        raise ValueError(
            f"results/zoo does not hold the runs of {name}, {weights.tag}, seeds {weights.seeds}; "
            "put their files back, or make the weights anew: cifarzoo train --record"
        )
    return runs


def _require_alike(records: Sequence[Record]) -> None:
    """Refuse runs that cannot stand in one row.

    Raises:
        ValueError: a seed was run twice.
    """
    seeds = [record.seed for record in records]
    if len(seeds) != len(set(seeds)):
        raise ValueError(
            f"the runs of {records[0].key} have seeds {seeds}; needed is each once: take a file "
            f"away from {', '.join(str(RESULTS / folder) for folder in OTHER_RUNS)}"
        )


def measured(scores: Sequence[Scores | None]) -> str:
    """Write an accuracy: over several runs, or of one with its interval; a dash for none."""
    known = [each for each in scores if each is not None]
    if not known or len(known) < len(scores):
        return "–"
    words = percent([each.accuracy for each in known])
    if len(known) == 1:
        low, high = known[0].interval
        words += f" ({100 * low:.2f} to {100 * high:.2f})"
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def percent(values: Sequence[float]) -> str:
    """Write the mean of accuracies and, of several, their standard deviation."""
    found = zoo.mean_and_std(values)
    return f"{found.mean:.2%}" + (f" ± {100 * found.std:.2f}" if found.std is not None else "")


def trained_on(records: Sequence[Record]) -> str:
    """Write on how many threads, or on which GPU, and in what precision runs were trained."""
    places = {
        f"{'GPU' if place.device != 'cpu' else f'{place.threads} threads'}, {place.precision}"
        for place in (record.machine for record in records)
    }
    return "; ".join(sorted(places)).replace("1 threads", "1 thread") or "–"


def machines_of(records: Sequence[Record]) -> str:
    """Name every machine that runs were trained on."""
    return "; ".join(dict.fromkeys(str(record.machine) for record in records))


def training_time(records: Sequence[Record]) -> str:
    """Write the median minutes of training."""
    if not records:
        return "–"
    return f"{statistics.median(record.history.seconds for record in records) / 60:,.1f}"


def val_by_seed(records: Sequence[Record]) -> dict[int, float]:
    """Give the accuracy on the validation split of every seed.

    Raises:
        ValueError: a run was not scored on it.
    """
    lost = [f"{record.key}, seed {record.seed}" for record in records if record.val is None]
    if lost:
        raise ValueError(f"{'; '.join(lost)}: no validation images were scored")
    return {record.seed: record.val.accuracy for record in records if record.val is not None}
