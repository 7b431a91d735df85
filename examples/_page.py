"""Summaries and figures of recorded runs, rendered as the HTML page of report_page.py."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import experiments
import matplotlib as mpl
import task1_arithmetic
import torch
from experiments import Experiment
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

import cifarzoo as zoo
from cifarzoo.data.cifar import CLASSES
from cifarzoo.data.shapes import SHAPE_CLASSES, load_shapes
from cifarzoo.evaluation.statistics import Estimate, mean_and_std, paired_difference
from cifarzoo.provenance import provenance
from cifarzoo.record import RunRecord

TEMPLATE = Path(__file__).with_name("report_page.html")
PAGE = "report.html"
CSS_DPI = 96
DASH, MINUS, NBSP = "–", "−", "\N{NO-BREAK SPACE}"
QUESTIONS = {
    "1a zeros": "the 3×5 image convolved with the Sobel kernel, zeros around it",
    "1a mirrored": "the same, with the image mirrored at its border",
    "1c": "padding that keeps the size with a 5×5 kernel, stride 1",
    "1d": "kernel that turns 512×512 into 504×504, no padding, stride 1",
    "1e": "then 2×2 pooling with stride 2",
    "1f": "then a 3×3 kernel, no padding, stride 1",
    "1g": "parameters of the baseline, layer by layer",
}
FILTERS = {
    "4b": "Filters of ResNet-18's first convolution, each above its activation on the test "
    "pattern: a zone plate, a ring of hues, gratings and coloured discs.",
    "4c": "The test pattern, and the first ten activation maps of ResNet-18's last convolution.",
}
TRAINING_NOTE = "Training curves are means over the steps since the previous check."


# ---------------------------------------------------------------- numbers as text


def number(value: float, digits: int = 2) -> str:
    """Format a number with commas between thousands and a typographic minus."""
    return f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """Format a difference with its sign."""
    return f"{value:+,.{digits}f}".replace("-", MINUS)


def plus_minus(estimate: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """Format a mean, and its standard deviation if there are several runs."""
    values = [estimate.mean, *([] if estimate.std is None else [estimate.std])]
    return f"{NBSP}±{NBSP}".join(number(scale * value, digits) for value in values)


def duration(seconds: float) -> str:
    """Format a time: 41 s, 3 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes} min {rest} s" if minutes else f"{rest} s"
    if minutes >= 60:
        text = f"{minutes // 60} h {minutes % 60} min"
    return text.replace(" ", NBSP)


# ---------------------------------------------------------------- summaries


@dataclass(frozen=True)
class Measure:
    """A figure of a run, which the report may print too; `name` as in experiments.Figures."""

    name: str
    label: str
    scale: float = 100
    digits: int = 2

    def of_run(self, run: RunRecord) -> float | None:
        """Return the figure of a run; None if it was not measured."""
        if self.name == "steps":
            return run.history.steps
        split, _, figure = self.name.partition("_")
        score: zoo.Evaluation | None = getattr(run, split)
        if score is None:
            return None
        return score.loss if figure == "loss" else score.accuracy


TEST, VAL = Measure("test", "test accuracy (%)"), Measure("val", "validation accuracy (%)")
MEASURES = (
    Measure("train_loss", "training loss (nats)", 1, 4),
    Measure("train", "training accuracy (%)"),
    VAL,
    TEST,
    Measure("steps", "steps until it stopped", 1, 0),
)


@dataclass(frozen=True)
class Row:
    """One figure: ours, the report's and the difference, each "–" if unknown."""

    label: str
    ours: str
    report: str = DASH
    difference: str = DASH


@dataclass(frozen=True, kw_only=True)
class Summary:
    """An experiment, its recorded runs, and why it could not be run."""

    experiment: Experiment
    runs: Sequence[RunRecord]
    failure: str = ""

    @property
    def key(self) -> str:
        """Key of the experiment."""
        return self.experiment.key

    @property
    def title(self) -> str:
        """Title of the experiment."""
        return self.experiment.title

    @property
    def seeds(self) -> str:
        """The seeds, as text."""
        return f"seed{'s' * (len(self.runs) > 1)} {', '.join(str(run.seed) for run in self.runs)}"

    @property
    def histories(self) -> list[zoo.History]:
        """Histories of the runs."""
        return [run.history for run in self.runs]

    def values(self, measure: Measure) -> dict[int, float]:
        """Return a figure by seed, for the runs that have it."""
        found = {run.seed: measure.of_run(run) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def row(self, measure: Measure) -> Row:
        """Compare a figure with the report's."""
        scale, digits, values = measure.scale, measure.digits, [*self.values(measure).values()]
        ours = plus_minus(mean_and_std(values), digits, scale) if values else DASH
        said = getattr(self.experiment.reported, measure.name, None)
        if said is None:
            return Row(measure.label, ours)
        comparable = values and not stand_in(self.runs)
        difference = signed(scale * (fmean(values) - said), digits) if comparable else DASH
        return Row(measure.label, ours, number(scale * said, digits), difference)

    @property
    def rows(self) -> list[Row]:
        """All figures."""
        return [self.row(measure) for measure in MEASURES]

    @property
    def test(self) -> Row:
        """Test accuracy."""
        return self.row(TEST)

    @property
    def losses(self) -> dict[str, float]:
        """Training and validation loss at the first and last check, means over the runs."""
        pairs = [[(c.train_loss, c.val_loss or math.nan) for c in h.checks] for h in self.histories]
        return {
            "train_first": fmean(each[0][0] for each in pairs),
            "train_last": fmean(each[-1][0] for each in pairs),
            "val_first": fmean(each[0][1] for each in pairs),
            "val_lowest": fmean(min(val for _, val in each) for each in pairs),
            "val_last": fmean(each[-1][1] for each in pairs),
        }

    @property
    def measured(self) -> dict[str, str]:
        """How the runs were made: means over the runs, as text."""
        endings = {"epochs": "all epochs", "early": "stopped early"}
        return {
            "epochs": number(fmean(h.checks[-1].epoch for h in self.histories), 1),
            "time": duration(fmean(h.seconds for h in self.histories)),
            "images/s": number(fmean(h.images_per_second for h in self.histories), 0),
            "ended": ", ".join(sorted({endings.get(h.stopped, h.stopped) for h in self.histories})),
        }


def stand_in(runs: Sequence[RunRecord]) -> str:
    """Return why the figures cannot be compared with the report's; empty if they can."""
    reasons = {
        "the data is artificial, not CIFAR-10": any(run.data != "cifar10" for run in runs),
        "each run was one epoch over a few hundred images": any(run.limit for run in runs),
    }
    return "; ".join(reason for reason, applies in reasons.items() if applies)


@dataclass(frozen=True)
class Effect:
    """Effect of a change on the test accuracy, in points; None without common seeds."""

    after: Summary
    estimate: Estimate | None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean difference; None for fewer than two seeds."""
        if self.estimate is None or self.estimate.low is None or self.estimate.high is None:
            return None
        return 100 * self.estimate.low, 100 * self.estimate.high

    @property
    def mean(self) -> float:
        """Mean difference."""
        return 100 * self.estimate.mean if self.estimate else math.nan

    @property
    def interval(self) -> str:
        """The interval as text."""
        return f"{NBSP}to{NBSP}".join(map(signed, self.ends)) if self.ends else ""

    @property
    def verdict(self) -> str:
        """Conclusion from the interval."""
        if self.ends is None:
            return "one seed" if self.estimate else "not run"
        low, high = self.ends
        return "better" if low > 0 else "worse" if high < 0 else "no clear difference"


def effect(after: Summary, before: Summary) -> Effect:
    """Compare two experiments over the seeds that both have."""
    new, old = after.values(TEST), before.values(TEST)
    seeds = sorted(new.keys() & old.keys())
    pairs = [new[seed] for seed in seeds], [old[seed] for seed in seeds]
    return Effect(after, paired_difference(*pairs) if seeds else None)


def origin(run: RunRecord) -> tuple[str, str, str]:
    """Return machine, code and versions of a run, as text."""
    versions = ", ".join(f"{name} {version}" for name, version in run.provenance.versions.items())
    return run.provenance.machine, run.provenance.source, versions


def find_conditions(runs: Iterable[RunRecord]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return a letter and the dates for each origin."""
    dates: dict[tuple[str, str, str], list[str]] = {}
    for run in sorted(runs, key=lambda run: run.provenance.date):
        dates.setdefault(origin(run), []).append(run.provenance.date[:10])
    return {
        each: (chr(ord("A") + i), " to ".join(dict.fromkeys((days[0], days[-1]))))
        for i, (each, days) in enumerate(dates.items())
    }


# ---------------------------------------------------------------- figures


@dataclass(frozen=True)
class Picture:
    """A figure as data URIs for light and dark pages, with its size in CSS pixels."""

    light: str
    dark: str
    size: tuple[int, int]
    alt: str
    caption: str


def draw(plot: Callable[[], Figure], alt: str, caption: str) -> Picture:
    """Draw a figure in both themes, as SVG."""
    uris: list[str] = []
    themes: tuple[zoo.viz.ThemeName, ...] = ("light", "dark")
    for name in themes:
        # With a fixed salt and no date the same figure gives the same bytes.
        with zoo.viz.theme(name), mpl.rc_context({"svg.hashsalt": "cifarzoo"}):
            figure, buffer = plot(), io.BytesIO()
            undated = {"Date": None, "Creator": None}
            figure.savefig(buffer, format="svg", transparent=True, metadata=undated)
        uris.append(data_uri(buffer.getvalue(), "svg+xml"))
    width, height = figure.get_size_inches()
    size = round(CSS_DPI * width), round(CSS_DPI * height)
    return Picture(uris[0], uris[1], size, alt, caption)


def data_uri(content: bytes, kind: str) -> str:
    """Return an image as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def stored(path: Path, caption: str) -> Picture:
    """Embed a PNG file."""
    with Image.open(path) as image:
        width, height = image.size
    uri = data_uri(path.read_bytes(), "png")
    return Picture(uri, uri, (width, height), caption, caption)


def curves(named: dict[str, Summary]) -> Picture:
    """Plot loss and accuracy of one experiment, or of several."""
    first = next(iter(named.values()))
    title, histories = " and ".join(named), {name: each.histories for name, each in named.items()}
    spread = "; lines are means, bands one standard deviation" if len(first.runs) > 1 else ""

    def plot() -> Figure:
        if len(named) == len(first.runs) == 1:
            return zoo.viz.plot_history(first.histories[0], title="")
        return zoo.viz.plot_histories(histories)

    return draw(
        plot,
        f"Loss and accuracy of {title} against the training step.",
        f"{title}, {first.seeds}{spread}. {TRAINING_NOTE}",
    )


def gap(summary: Summary) -> Picture:
    """Plot validation loss minus training loss."""
    return draw(
        lambda: zoo.viz.plot_gap(summary.histories),
        f"Validation loss minus training loss of {summary.title} grows with the training step.",
        f"Validation loss minus training loss, {summary.seeds}. The training loss is a mean over "
        "the steps since the previous check, so the gap may be negative at first.",
    )


def confusion(summary: Summary) -> Picture | None:
    """Plot the confusion matrix of all runs together."""
    found = [run.test.confusion for run in summary.runs if run.test]
    matrices = [each for each in found if each is not None]
    if not matrices:
        return None
    names = CLASSES if summary.runs[0].data == "cifar10" else SHAPE_CLASSES
    total = torch.stack(matrices).sum(0)
    return draw(
        lambda: zoo.viz.plot_confusion(total, names, values="percent", title="Test images"),
        f"Confusion matrix of {summary.title}: a row per true class, a column per predicted class.",
        f"{summary.title}, {summary.seeds} together, in percent of the true class.",
    )


def draw_all(found: dict[str, Summary], folder: Path) -> dict[str, Picture]:
    """Draw all figures for which there are runs; return them by part of the report."""
    drawn: dict[str, Picture | None] = {}
    accuracies = {key: [*found[key].values(VAL).values()] for key in ("model1", "model2")}
    better = max(accuracies, key=lambda key: fmean(accuracies[key] or [0.0]))
    for part, key in {"2a": "baseline", "3b": better, "3e": "best"}.items():
        drawn[part] = curves({found[key].title: found[key]}) if found[key].runs else None
    before, after = found["model2_without_batch_norm"], found[experiments.WITH_NORM.key]
    best = found["best"]
    if before.runs and after.runs:
        drawn["3d"] = curves({before.title: before, after.title: after})
    if best.runs:
        drawn["3f"], drawn["3e-confusion"] = gap(best), confusion(best)
    for key, each in found.items():
        if each.experiment.task == "4a" and each.runs:
            drawn[f"4a-{key}"] = curves({each.title: each})
    for part, caption in FILTERS.items():
        path = folder / f"task{part}.png"
        drawn[part] = stored(path, caption) if path.exists() else None
    return {part: each for part, each in drawn.items() if each is not None}


# ---------------------------------------------------------------- the page


def write_page(folder: Path, found: dict[str, Summary], failures: dict[str, str]) -> Path:
    """Write the page next to the figures of tasks 4b and 4c.

    `found` holds all experiments by key, run or not; `failures`, by title, why something could not
    be run.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed}
    page = environment.get_template(TEMPLATE.name).render(context(folder, found, failures))
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def context(folder: Path, found: dict[str, Summary], failures: dict[str, str]) -> dict[str, object]:
    """Collect what the template shows."""
    runs = [run for summary in found.values() for run in summary.runs]
    torch.manual_seed(0)
    baseline = zoo.build_model("report_baseline")
    shapes = load_shapes(100, 10, seed=0).train_images
    networks = [found[key] for key in ("baseline", "model1", "model2", "best")]
    transfers = [found["resnet18_transfer"]]
    transfers += [found[experiments.STAND_IN.key]] if found[experiments.STAND_IN.key].runs else []
    control = found[experiments.NO_CHANGE.key]
    effects = [effect(found[each.key], control) for each in experiments.ABLATION]
    ends = [abs(end) for each in effects if each.ends for end in each.ends]
    conditions = find_conditions(runs)
    return {
        "found": found,
        "networks": networks,
        "transfers": transfers,
        "runs": runs,
        "stand_in": stand_in(runs),
        "missing": [each for each in found.values() if not each.runs and each.failure == ""],
        "task1": task1_arithmetic,
        "answers": task1_arithmetic.answers(),
        "questions": QUESTIONS,
        "shifts": task1_arithmetic.shift_ratios(baseline, shapes),
        "layers": [(each, zoo.layer_table(each.experiment.card.builder(10))) for each in networks],
        "effects": effects,
        "reach": max(ends, default=1.0),
        "control": control,
        "norm": effect(found[experiments.WITH_NORM.key], found["model2_without_batch_norm"]),
        "pictures": draw_all(found, folder),
        "failures": failures,
        "conditions": conditions,
        "letters": {
            key: sorted({conditions[origin(run)][0] for run in each.runs})
            for key, each in found.items()
        },
        "here": provenance(),
        "newest": max((run.provenance.date[:10] for run in runs), default=""),
    }
