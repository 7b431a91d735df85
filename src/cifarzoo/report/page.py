"""The report as one self-contained HTML page, made from a folder of results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from cifarzoo.arithmetic.cost import LayerCost, layer_table
from cifarzoo.registry import outline
from cifarzoo.report import words
from cifarzoo.report.experiments import EXPERIMENTS, FILTERS_KEY, experiment_of
from cifarzoo.report.figures import page_pictures
from cifarzoo.report.folder import Results, load_results, write_text
from cifarzoo.report.measured import measured, origins_of
from cifarzoo.report.provenance import this_source
from cifarzoo.report.record import Failure, Record
from cifarzoo.report.summary import Change, Summary, ablation, change, summaries
from cifarzoo.report.task1 import IMAGE, KERNEL, answers, shift_changes

__all__ = ["PAGE_NAME", "write_page"]

PAGE_NAME = "report.html"
_MODELS = ("baseline", "model1", "model2", "best", "resnet18_transfer")


def write_page(folder: str | Path) -> Path:
    """Write the page of a folder of results into it; whatever was not run is shown as that.

    Returns:
        The page's path.

    Raises:
        ResultsError: there is no such folder, a file in it is damaged, or its runs cannot be
            averaged with one another.
    """
    folder = Path(folder)
    path = folder / PAGE_NAME
    write_text(path, _render(load_results(folder), folder))
    return path


def _render(results: Results, folder: Path) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cifarzoo", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__}
    environment.filters |= {"unbroken": _unbroken, "product": math.prod}
    return environment.get_template("template.html").render(_context(results, folder))


def _unbroken(text: str) -> str:
    """Keep a text in one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _context(results: Results, folder: Path) -> dict[str, object]:
    found = summaries(results)
    extra = [found[key] for key in found if key not in {each.key for each in EXPERIMENTS}]
    listed = origins_of(results.records)
    changes = ablation(found)
    return {
        "found": found,
        "models": [found[key] for key in _MODELS] + extra,
        "extra": extra,
        "stand_in": _stand_in(results.records),
        "runs": len(results.records),
        "missing": [summary for summary in found.values() if not summary.records],
        "images": {"image": IMAGE, "kernel": KERNEL},
        "answers": answers(),
        "shifts": shift_changes(),
        "layers": {key: _layers(key) for key in _MODELS[:4]},
        "recipes": {key: experiment_of(key).card.recipe for key in _MODELS},
        "changes": changes,
        "reach": _reach(changes),
        "norm": change(found["model2"], found["model2_without_batch_norm"]),
        "pictures": page_pictures(found, folder),
        "failures": _failures(results, found),
        "conditions": listed,
        "measured": [measured(s, listed) for s in found.values() if s.records],
        "source": this_source(),
        "newest": max((record.date for record in results.records), default=None),
    }


def _failures(results: Results, found: dict[str, Summary]) -> list[tuple[str, Failure]]:
    """Give the newest failure of whatever has no result, by its title."""
    untrained = [(summary.title, summary.key) for summary in found.values() if not summary.records]
    named = [*untrained, ("Tasks 4b and 4c", FILTERS_KEY)]
    noted = [(title, results.failure_of(key)) for title, key in named]
    return [(title, failure) for title, failure in noted if failure is not None]


def _stand_in(records: Iterable[Record]) -> str | None:
    """Say what makes the figures unfit to be set beside the report's; None if nothing does."""
    record = next(iter(records), None)  # all are alike in this, or there is no page
    if record is None:
        return None
    reasons = []
    if record.data != "cifar10":
        reasons.append(f"the data is a stand-in ({record.data}), not CIFAR-10")
    if record.mode == "quick":
        reasons.append("each run was a single epoch over a few hundred images (quick mode)")
    return "; ".join(reasons) or None


def _layers(key: str) -> tuple[LayerCost, ...]:
    return layer_table(outline(experiment_of(key).card))


def _reach(changes: Iterable[Change]) -> float:
    """Give the largest distance from zero that an interval of the ablation reaches."""
    ends = [
        abs(end)
        for each in changes
        if each.difference is not None
        for end in (each.difference.low, each.difference.high, each.difference.mean)
        if end is not None
    ]
    return max(ends, default=0.0) or 1.0
