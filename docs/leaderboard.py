"""The leaderboard and a page for every family, written from the cards and from results/."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cifarzoo as zoo
from cifarzoo.display import settings_rows
from cifarzoo.report import load_results
from cifarzoo.report.experiments import EXPERIMENTS
from cifarzoo.report.record import Record

__all__ = ["Standing", "standings", "write_models", "write_page"]

RESULTS = Path(__file__).parents[1] / "results"
FAMILIES = {
    "report": "The report's networks",
    "sprint": "Sprint: built for wall-clock time",
    "transfer": "Transfer from ImageNet",
}


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that another project gives."""

    name: str
    params: int
    macs: int
    accuracy: float
    source: str


# Single runs, from a single view; sizes are those of pytorchcv's table.
PUBLISHED = (
    Published("DenseNet-BC-40 (k=12)", 176_122, 74_890_000, 0.9357, "pytorchcv"),
    Published("ResNet-20", 272_474, 41_290_000, 0.9403, "pytorchcv"),
    Published("ResNet-20", 272_474, 41_290_000, 0.9260, "chenyaofo"),
    Published("ResNet-56", 855_770, 127_060_000, 0.9437, "chenyaofo"),
    Published("SE-ResNet-56", 862_889, 127_190_000, 0.9587, "pytorchcv"),
    Published("SE-ResNet-164(BN)", 1_906_258, 256_550_000, 0.9661, "pytorchcv"),
    Published("PreResNet-1001", 10_327_706, 1_536_180_000, 0.9735, "pytorchcv"),
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model, and the runs by its card's recipe.

    Attributes:
        card: of the model.
        params: its parameters.
        macs: multiply-accumulates for one image.
        records: the runs on the processor, one a seed; may be empty.
    """

    card: zoo.ModelCard
    params: int
    macs: int
    records: tuple[Record, ...]

    @property
    def accuracy(self) -> zoo.Estimate | None:
        """From a single view, over the seeds."""
        found = [record.test.accuracy for record in self.records if record.test]
        return zoo.mean_and_std(found) if found else None

    @property
    def views(self) -> zoo.Estimate | None:
        """With test-time augmentation."""
        found = [record.test_tta.accuracy for record in self.records if record.test_tta]
        return zoo.mean_and_std(found) if found else None


def standings() -> list[Standing]:
    """Give every model, in the order of the cards."""
    names = {each.key: each.card.name for each in EXPERIMENTS}
    records = [*load_results(RESULTS).records, *load_results(RESULTS / "sprint").records]
    found = []
    for name in zoo.list_models():
        card = zoo.model_card(name)
        model = zoo.build_model(name, weights=None)
        mine = [
            each
            for each in records
            if names.get(each.key, each.key) == name and each.recipe == card.recipe
        ]
        _require_alike(mine)
        found.append(
            Standing(
                card=card,
                params=zoo.count_params(model),
                macs=sum(row.macs for row in zoo.layer_table(model)),
                records=tuple(mine),
            )
        )
    return found


def _require_alike(records: Sequence[Record]) -> None:
    """Refuse runs that cannot stand in one row.

    Raises:
        ValueError: a seed was run twice, or the machines differ.
    """
    seeds = [record.seed for record in records]
    machines = {(record.machine.processor, record.machine.threads) for record in records}
    if len(seeds) != len(set(seeds)) or len(machines) > 1:
        raise ValueError(f"runs of {records[0].key}: seeds {seeds} on {machines}; needed are alike")


def percent(estimate: zoo.Estimate | None) -> str:
    """Write a mean, and the standard deviation of the runs."""
    if estimate is None:
        return "–"
    spread = f" ± {estimate.std * 100:.2f}" if estimate.std is not None else ""
    return f"{estimate.mean:.2%}{spread}".replace(" ", "\N{NO-BREAK SPACE}")


def training_time(records: Sequence[Record]) -> str:
    """Write the median time of training, and on how many threads."""
    if not records:
        return "–"
    minutes = statistics.median(record.history.seconds for record in records) / 60
    threads = records[0].machine.threads
    return f"{minutes:,.1f} min on {threads}".replace(" ", "\N{NO-BREAK SPACE}")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> str:
    """Write a table; the last columns hold numbers."""
    rule = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    lines = [header, rule, *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def write_models(folder: Path) -> None:
    """Write the pages and their pictures into a folder of the documentation's sources."""
    found = standings()
    folder.mkdir(parents=True, exist_ok=True)
    _draw(found, folder)
    families = list(dict.fromkeys(each.card.family for each in found))
    write_page(folder / "index.md", _leaderboard(found, families))
    for family in families:
        mine = [each for each in found if each.card.family == family]
        write_page(folder / f"{family}.md", _family_page(FAMILIES.get(family, family), mine))


def write_page(path: Path, text: str) -> None:
    """Write a file unless it holds that already, so that Sphinx builds no page anew for nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _both(name: str, alt: str) -> list[str]:
    """Show a picture for light pages, and its twin for dark ones."""
    lines = []
    for theme in ("light", "dark"):
        lines += [f"```{{image}} {name}-{theme}.svg", f":alt: {alt}", f":class: only-{theme}"]
        lines += [":width: 100%", "```", ""]
    return lines


def _leaderboard(found: Sequence[Standing], families: Sequence[str]) -> str:
    best = sorted(found, key=lambda each: -each.accuracy.mean if each.accuracy else 0)
    rows = [
        (
            f"[`{each.card.name}`]({each.card.family}.md#{each.card.name.replace('_', '-')})",
            percent(each.accuracy),
            percent(each.views),
            f"{each.params:,}",
            f"{each.macs / 1e6:,.1f}",
            len(each.records) or "not run",
            training_time(each.records),
        )
        for each in best
    ]
    columns = ("single view", "six views", "parameters", "million MACs", "seeds", "training")
    header = ("model", *columns)
    theirs = sorted(PUBLISHED, key=lambda each: -each.accuracy)
    return "\n".join(
        [
            "# The models",
            "",
            table(header, rows, numbers=6),
            "Accuracy on all 10,000 test images, scored once a run: mean ± standard deviation over",
            "the seeds. Training is the median time, on so many threads of the processor that the",
            "model's page names. MACs are multiply-accumulates for one image. How numbers are",
            "made, and what they are worth: [](../numbers.md).",
            "",
            *_both(
                "accuracy-parameters",
                "Test accuracy against parameters, our models and those of others.",
            ),
            *_both(
                "accuracy-macs",
                "Test accuracy against multiply-accumulates, our models and those of others.",
            ),
            "## What others publish",
            "",
            table(
                ("model", "whose", "parameters", "million MACs", "single view"),
                [
                    (p.name, p.source, f"{p.params:,}", f"{p.macs / 1e6:,.1f}", f"{p.accuracy:.2%}")
                    for p in theirs
                ],
                numbers=3,
            ),
            "Single runs, as their projects give them:",
            "[pytorchcv](https://github.com/osmr/pytorchcv),",
            "[chenyaofo](https://github.com/chenyaofo/pytorch-cifar-models). They do not say",
            "whether the epoch was chosen on the test set, which adds some tenths of a point;",
            "ours is not.",
            "",
            "```{toctree}",
            ":hidden:",
            "",
            *families,
            "```",
            "",
        ]
    )


def _family_page(title: str, found: Sequence[Standing]) -> str:
    lines = [f"# {title}", ""]
    for each in found:
        lines += [*_model_section(each), ""]
    return "\n".join(lines)


def _model_section(each: Standing) -> list[str]:
    card = each.card
    lines = [f"## {card.name}", "", card.summary, ""]
    weights = ", ".join(f"`{entry.tag}`" for entry in card.weights)
    facts = [
        ("parameters", f"{each.params:,}"),
        ("multiply-accumulates", f"{each.macs:,}"),
        ("source", card.paper),
        ("weights", weights or "none come with the package yet"),
        ("test accuracy, single view", percent(each.accuracy)),
        *[("test accuracy, six views", percent(each.views))][: each.views is not None],
        ("seeds", ", ".join(str(record.seed) for record in each.records) or "not run here"),
    ]
    if each.records:
        facts.append(("training (on threads)", training_time(each.records)))
        facts.append(("machine", str(each.records[0].machine)))
    lines += [table(("what", ""), facts), *_both(card.name, f"The layers of {card.name}.")]
    recipe = table(("setting", "value"), settings_rows(card.recipe))
    return [*lines, ":::{dropdown} Recipe", recipe, ":::"]


def _draw(found: Sequence[Standing], folder: Path) -> None:
    """Draw accuracy against size, and each network."""
    models = [zoo.build_model(each.card.name, weights=None) for each in found]
    themes: tuple[zoo.viz.ThemeName, ...] = ("light", "dark")
    for theme in themes:
        with zoo.viz.theme(theme):
            pictures = {
                "accuracy-parameters": zoo.viz.plot_sizes(_points(found, "parameters")),
                "accuracy-macs": zoo.viz.plot_sizes(
                    _points(found, "multiply-accumulates"), size="multiply-accumulates"
                ),
            }
            for each, model in zip(found, models, strict=True):
                pictures[each.card.name] = zoo.viz.plot_network(model)
        for key, figure in pictures.items():
            path = folder / f"{key}-{theme}.svg"
            figure.savefig(path, facecolor="none", metadata={"Date": None})


def _points(found: Sequence[Standing], size: zoo.viz.SizeName) -> list[zoo.viz.ModelPoint]:
    """Give the places in a picture, ours and theirs."""
    by_params = size == "parameters"
    points = [
        zoo.viz.ModelPoint(
            name=each.card.name,
            size=each.params if by_params else each.macs,
            accuracy=score.mean,
            std=score.std,
        )
        for each in found
        for score in [each.accuracy]
        if score
    ]
    names = Counter(each.name for each in PUBLISHED)
    for theirs in PUBLISHED:
        name = theirs.name if names[theirs.name] == 1 else f"{theirs.name} ({theirs.source})"
        place = theirs.params if by_params else theirs.macs
        points.append(
            zoo.viz.ModelPoint(
                name=name, size=place, accuracy=theirs.accuracy, source=theirs.source
            )
        )
    return points
