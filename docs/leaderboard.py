"""Write the table of all models, and one page per family, from the records of the runs."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from standings import PUBLISHED, Standing, minutes, scores_table, standings, table, trained_on

import cifarzoo as zoo
from cifarzoo.display import settings_rows
from cifarzoo.record import Scores

__all__ = ["write_models", "write_page"]

FAMILIES = {
    "report": "The report's networks",
    "sprint": "Sprint: built for wall-clock time",
    "transfer": "Transfer from ImageNet",
    "resnet": "ResNet for CIFAR",
    "preact_resnet": "Pre-activation ResNet-18",
    "wide_resnet": "Wide ResNet",
    "vgg": "VGG with batch norm",
    "densenet": "DenseNet-BC",
    "mobilenet_v2": "MobileNetV2 for 32×32 images",
    "tiny": "Tiny: under 0.1 million parameters",
}
SIZES: dict[str, zoo.viz.SizeName] = {"parameters": "parameters", "macs": "multiply-accumulates"}
NOTES = """\
Accuracy on all 10,000 test images, scored once per run. Several seeds: mean ± standard deviation,
to which the finite test set adds 0.4 to 0.9 points of uncertainty in either direction. One seed:
the 95 % interval of the test set, which says nothing about other seeds. † marks a recipe that was
added when the test score of an earlier one was known, which can bias its figure upward. Error bars
show the standard deviation. TTA is test-time augmentation over 6 views. Minutes are the training
time without disturbances, with the threads and precision in the footnotes, on the machine that the
model's page names. MACs are multiply-accumulates per image. Weights in the package are named by
their tag. A dash means not available or not measured. See [](../numbers.md).
"""
BEYOND = """\
## Beyond accuracy

Of the packaged files that were scored: accuracy on all test images, and without those that have a
near-duplicate in the training set; calibration error, before and after dividing the logits by the
temperature; mean accuracy over 15 common corruptions (drawn by cifarzoo, so not comparable to that
on CIFAR-10-C) and five severities; detection of CIFAR-100 images; accuracy under attack. See
[](../howto/beyond_accuracy.md).
"""
SOURCES = """\
Sources: [pytorchcv](https://github.com/osmr/pytorchcv), whose sizes are also used for two
networks of [chenyaofo](https://github.com/chenyaofo/pytorch-cifar-models);
[airbench](https://github.com/KellerJordan/cifar10-airbench) (means of many runs; the size is that
of `sprint_m`); [kuangliu](https://github.com/kuangliu/pytorch-cifar);
[huyvnphan](https://github.com/huyvnphan/PyTorch_CIFAR10);
[xvel](https://github.com/xvel/cifar10-tiniest) (under 0.1 million parameters); [He
2015](https://arxiv.org/abs/1512.03385). Most of these are single runs whose best epoch was
selected on the test set, which inflates the accuracy by 0.2 to 0.5 points. The plots show
single-view results with a known size.
"""


def write_models(folder: Path) -> None:
    """Write the pages and their figures into a folder of the documentation's sources."""
    found = standings()
    folder.mkdir(parents=True, exist_ok=True)
    _draw(found, folder)
    write_page(folder / "index.md", _leaderboard(found))
    for family in FAMILIES:
        write_page(folder / f"{family}.md", _family_page(family, found))


def write_page(path: Path, text: str) -> None:
    """Write a file if its content changes; Sphinx rebuilds only changed pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _figure(name: str, alt: str) -> str:
    """Return the light and the dark version of a figure."""
    return "".join(
        f"```{{image}} {name}-{theme}.svg\n:alt: {alt}\n:class: only-{theme}\n:width: 100%\n```\n\n"
        for theme in ("light", "dark")
    )


def _leaderboard(found: Sequence[Standing]) -> str:
    best = sorted(found, key=lambda each: (each.data, -each.mean))
    places = dict.fromkeys(trained_on(each.runs) for each in best if each.runs)
    marks = dict(zip(places, "abcdefghij", strict=False))
    rows = [
        (
            f"[`{each.label}`]({each.card.family}.md#{each.card.name.replace('_', '-')})",
            f"`{each.data}`",
            each.single_view,
            each.with_tta,
            f"{each.params:,}",
            f"{each.macs / 1e6:,.1f}",
            len(each.runs) or "–",
            f"`{each.tag}`" if each.weights else "–",
            minutes(each.runs)
            + (f" <sup>{marks[trained_on(each.runs)]}</sup>" if each.runs else ""),
        )
        for each in best
    ]
    sizes = ("parameters", "million MACs")
    accuracies = ("data set", "single view", "with TTA")
    header = ("model", *accuracies, *sizes, "seeds", "weights", "minutes")
    ours = table(header, rows, left=2)
    theirs = table(
        ("model", "source", *sizes, "accuracy", "views"),
        [
            (
                each.name,
                each.source,
                "–" if each.params is None else f"{each.params:,}",
                "–" if each.macs is None else f"{each.macs / 1e6:,.1f}",
                each.text,
                each.views,
            )
            for each in sorted(PUBLISHED, key=lambda each: -each.accuracy)
        ],
        left=2,
    )
    footnotes = "; ".join(f"<sup>{mark}</sup> {place}" for place, mark in marks.items())
    figures = [
        _figure(f"accuracy-{name}", f"Test accuracy by {size}, of our models and published ones.")
        for name, size in SIZES.items()
    ]
    contents = "\n".join(["```{toctree}", ":hidden:", "", *FAMILIES, "```", ""])
    published = "## Published by others\n"
    ours, scores = (f"::::{{div}} compact\n{each}::::\n" for each in (ours, scores_table(found)))
    notes = (footnotes + "\n", NOTES, *figures)
    parts = ("# Models\n", ours, *notes, BEYOND, scores, published, theirs, SOURCES)
    return "\n".join((*parts, contents))


def _family_page(family: str, found: Sequence[Standing]) -> str:
    docstring = inspect.getdoc(importlib.import_module(f"cifarzoo.models.{family}")) or ""
    lines = [f"# {FAMILIES[family]}", "", docstring.partition("\n\n")[2], ""]
    mine = [each for each in found if each.card.family == family]
    for name, group in itertools.groupby(mine, key=lambda each: each.card.name):
        same = [*group]
        lines += [f"## {name}", "", same[0].card.summary, "", _network(same)]
        lines += [_figure(name, f"The layers of {name}."), *map(_description, same)]
    return "\n".join(lines)


def _network(same: Sequence[Standing]) -> str:
    """Return what the recipes of a model have in common."""
    first = same[0]
    facts = {
        "parameters": f"{first.params:,}",
        "multiply-accumulates": f"{first.macs:,}",
        "source": first.card.paper,
        "weights in the package": ", ".join(f"`{each.tag}`" for each in same if each.weights),
    }
    rows = [(name, text or "none") for name, text in facts.items()]
    return table(("network", "value"), rows, left=2)


def _description(each: Standing) -> str:
    """Return all that is known about a model trained with one recipe."""
    facts = {
        "data set": f"`{each.data}`",
        "test accuracy, single view": each.single_view,
        "test accuracy, with TTA": each.with_tta,
        "seeds": ", ".join(str(run.seed) for run in each.runs) or "–",
        "weights": "none with this recipe",
    }
    if each.weights is not None:
        low, high = each.weights.interval
        facts["weights"] = f"seed {each.weights.run.seed}, {each.weights.size_bytes:,} bytes"
        facts["SHA-256"] = f"`{each.weights.sha256}`"
        accuracy = f"{each.weights.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"
        facts["accuracy of these weights"] = accuracy
        facts |= dict(each.weights.scores.rows()) if each.weights.scores else {}
    if each.runs:
        machines = [run.provenance.machine for run in each.runs]
        facts["training, minutes"] = minutes(each.runs)
        facts["machine"] = "; ".join(dict.fromkeys(machines))
    facts["teacher"] = "; ".join(dict.fromkeys(run.teacher for run in each.runs if run.teacher))
    facts["note"] = " ".join(dict.fromkeys(run.note for run in each.runs))
    known = [(name, text) for name, text in facts.items() if text]
    recipe = table(("setting", "value"), settings_rows(each.recipe), left=2)
    heading = f"### {each.card.name}, recipe `{each.tag}`"
    results = table(("result", "value"), known, left=2)
    parts = [f"{heading}\n\n{results}\n:::{{dropdown}} Settings\n{recipe}:::\n"]
    if each.weights is not None and each.weights.scores is not None:
        corruptions = _corruptions(each.weights.scores)
        parts.append(f":::{{dropdown}} Accuracy by corruption and severity\n{corruptions}:::\n")
    return "\n".join(parts)


def _corruptions(scores: Scores) -> str:
    """Return the accuracy by corruption and severity."""
    rows = [
        (f"`{name}`", *(f"{each:.2%}" for each in (*accuracies, scores.by_corruption[name])))
        for name, accuracies in scores.corruptions.items()
    ]
    return table(("corruption, drawn by cifarzoo", "1", "2", "3", "4", "5", "mean"), rows)


def _draw(found: Sequence[Standing], folder: Path) -> None:
    """Draw accuracy against size, and every network."""
    themes: tuple[zoo.viz.ThemeName, ...] = ("light", "dark")
    for theme in themes:
        with zoo.viz.theme(theme):
            figures = {n: zoo.viz.plot_network(zoo.build_model(n)) for n in zoo.list_models()}
            for name, size in SIZES.items():
                figures[f"accuracy-{name}"] = zoo.viz.plot_sizes(_points(found, size), size=size)
        for name, figure in figures.items():
            path = folder / f"{name}-{theme}.svg"
            figure.savefig(path, facecolor="none", metadata={"Date": None})


def _points(found: Sequence[Standing], size: zoo.viz.SizeName) -> list[zoo.viz.ModelPoint]:
    """Return the points of a plot: our models, and published ones with a known size."""
    size_of, point = attrgetter("params" if size == "parameters" else "macs"), zoo.viz.ModelPoint
    points = [
        point(name=each.label, size=size_of(each), accuracy=each.mean, std=each.std)
        for each in found
        if each.runs and each.data == "cifar10"  # as the published ones
    ]
    names = Counter(each.name for each in PUBLISHED)
    for each in PUBLISHED:
        if size_of(each) is not None and each.views == "single view":
            name = each.name if names[each.name] == 1 else f"{each.name} ({each.source})"
            place, source = size_of(each), each.source
            points.append(point(name=name, size=place, accuracy=each.accuracy, source=source))
    return points
