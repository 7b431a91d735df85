"""The leaderboard and a page for every family, written from the cards and from results/."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from standings import (
    PUBLISHED,
    Standing,
    machines_of,
    standings,
    trained_on,
    training_time,
)

import cifarzoo as zoo
from cifarzoo.display import settings_rows

__all__ = ["write_models", "write_page"]

FAMILIES = {
    "report": "The report's networks",
    "sprint": "Sprint: built for wall-clock time",
    "transfer": "Transfer from ImageNet",
    "resnet": "ResNet: the paper's for CIFAR",
    "preact_resnet": "Pre-activation ResNet-18",
    "wide_resnet": "Wide ResNet",
    "vgg": "VGG with batch norm",
    "densenet": "DenseNet-BC",
    "mobilenet_v2": "MobileNetV2 for 32×32",
    "tiny": "Tiny: under 0.1 million parameters",
}


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
    places = dict.fromkeys(trained_on(each.records) for each in best if each.records)
    marks = dict(zip(places, "abcdefghij", strict=False))
    rows = [
        (
            f"[`{each.label}`]({each.card.family}.md#{each.card.name.replace('_', '-')})",
            each.single_view,
            each.six_views,
            f"{each.params:,}",
            f"{each.macs / 1e6:,.1f}",
            len(each.records) or "–",
            f"`{each.weights.tag}`" if each.weights else "–",
            training_time(each.records)
            + (f" <sup>{marks[trained_on(each.records)]}</sup>" if each.records else ""),
        )
        for each in best
    ]
    sizes = ("parameters", "million MACs")
    header = ("model", "single view", "six views", *sizes, "seeds", "weights", "minutes")
    theirs = sorted(PUBLISHED, key=lambda each: -each.accuracy)
    return "\n".join(
        [
            "# The models",
            "",
            table(header, rows, numbers=7),
            "; ".join(f"<sup>{mark}</sup> {place}" for place, mark in marks.items()),
            "",
            "Accuracy on all 10,000 test images, scored once a run: mean ± standard deviation over",
            "the seeds, of one run its 95 % interval. Where seeds agree, that is not all: the test",
            "set's own interval reaches 0.4 to 0.9 points to either side. The pictures' bars are",
            "the seeds'. Minutes are the median time of training on the machine that the model's",
            "page names. MACs are multiply-accumulates for one image.",
            "Weights are the tag of those that come with the package. A dash is what there is not,",
            "or what was not measured. How numbers are made, and what they are worth:",
            "[](../numbers.md).",
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
                ("model", "whose", "parameters", "million MACs", "accuracy", "views"),
                [
                    (
                        each.name,
                        each.source,
                        "–" if each.params is None else f"{each.params:,}",
                        "–" if each.macs is None else f"{each.macs / 1e6:,.1f}",
                        each.words,
                        each.views,
                    )
                    for each in theirs
                ],
                numbers=4,
            ),
            "As their projects and papers give them:",
            "[pytorchcv](https://github.com/osmr/pytorchcv), whose sizes also stand for two of",
            "[chenyaofo](https://github.com/chenyaofo/pytorch-cifar-models),",
            "[airbench](https://github.com/KellerJordan/cifar10-airbench) (means of many runs; the",
            "network's size as it is here), [kuangliu](https://github.com/kuangliu/pytorch-cifar),",
            "[huyvnphan](https://github.com/huyvnphan/PyTorch_CIFAR10),",
            "[xvel](https://github.com/xvel/cifar10-tiniest) (under 0.1 million parameters), and",
            "[He 2015](https://arxiv.org/abs/1512.03385). Most others are single runs whose best",
            "epoch was chosen on the test set, which adds 0.2 to 0.5 points; our epoch never is.",
            "The pictures show those from a single view whose size is known.",
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
    lines = [f"# {title}", "", *_origin(found[0].card.family), ""]
    for card, mine in _by_card(found).items():
        lines += [f"## {card}", "", mine[0].card.summary, ""]
        for each in mine:
            lines += [*_standing(each), ""]
        lines += _both(card, f"The layers of {card}.")
    return "\n".join(lines)


def _origin(family: str) -> list[str]:
    """Give what a family's file says of its source and of where it deviates."""
    text = inspect.getdoc(importlib.import_module(f"cifarzoo.models.{family}")) or ""
    return text.partition("\n\n")[2].splitlines()


def _by_card(found: Sequence[Standing]) -> dict[str, list[Standing]]:
    cards: dict[str, list[Standing]] = {}
    for each in found:
        cards.setdefault(each.card.name, []).append(each)
    return cards


def _standing(each: Standing) -> list[str]:
    """Write what is known of a model, or of one of its weights, and their recipe."""
    card, weights = each.card, each.weights
    facts = [
        ("parameters", f"{each.params:,}"),
        ("multiply-accumulates", f"{each.macs:,}"),
        ("source", card.paper),
        ("weights", "none come with the package" if weights is None else f"`{weights.tag}`"),
        ("test accuracy, single view", each.single_view),
        ("test accuracy, six views", each.six_views),
        ("seeds", ", ".join(str(record.seed) for record in each.records) or "not run here"),
    ]
    if weights is not None:
        low, high = weights.interval
        own = f"{weights.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), seed {weights.seed}"
        facts.append(("accuracy of these weights", own))
        facts.append(("file", f"{weights.size_bytes:,} bytes, SHA-256 `{weights.sha256}`"))
    taught = dict.fromkeys(record.teacher for record in each.records if record.teacher)
    facts += [("teacher", _teacher(label)) for label in taught]
    if each.records:
        facts.append(("minutes of training", training_time(each.records)))
        machines = weights.machine if weights else machines_of(each.records)
        facts.append(("machine", machines))
    recipe = table(("setting", "value"), settings_rows(each.recipe))
    return [table(("what", ""), facts), ":::{dropdown} Recipe", recipe, ":::"]


def _teacher(label: str) -> str:
    """Write the weights that runs learnt from, as their records name them: file and hash."""
    file, _, digest = label.partition(" ")
    name, _, tag = file.rpartition("-")
    now = zoo.model_card(name).weights_for(tag)
    is_there = now is not None and now.sha256.startswith(digest)
    since = "" if is_there else ", which others have replaced since"
    return f"weights `{tag}` of `{name}`, SHA-256 `{digest}…`{since}"


def _draw(found: Sequence[Standing], folder: Path) -> None:
    """Draw accuracy against size, and each network."""
    models = {name: zoo.build_model(name, weights=None) for name in _by_card(found)}
    themes: tuple[zoo.viz.ThemeName, ...] = ("light", "dark")
    for theme in themes:
        with zoo.viz.theme(theme):
            pictures = {
                "accuracy-parameters": zoo.viz.plot_sizes(_points(found, "parameters")),
                "accuracy-macs": zoo.viz.plot_sizes(
                    _points(found, "multiply-accumulates"), size="multiply-accumulates"
                ),
            }
            for name, model in models.items():
                pictures[name] = zoo.viz.plot_network(model)
        for key, figure in pictures.items():
            path = folder / f"{key}-{theme}.svg"
            figure.savefig(path, facecolor="none", metadata={"Date": None})


def _points(found: Sequence[Standing], size: zoo.viz.SizeName) -> list[zoo.viz.ModelPoint]:
    """Give the places in a picture, ours and theirs."""
    by_params = size == "parameters"
    points = [
        zoo.viz.ModelPoint(
            name=each.label,
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
        place = theirs.params if by_params else theirs.macs
        if place is None or theirs.views != "single view":
            continue
        name = theirs.name if names[theirs.name] == 1 else f"{theirs.name} ({theirs.source})"
        points.append(
            zoo.viz.ModelPoint(
                name=name, size=place, accuracy=theirs.accuracy, source=theirs.source
            )
        )
    return points
