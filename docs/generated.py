"""Pages that are written anew at every build, from the cards and the changelog."""

from __future__ import annotations

import importlib
from pathlib import Path

from leaderboard import write_models, write_page

import cifarzoo as zoo

__all__ = ["RECORDED", "write_pages"]

KINDS = {
    "models": "Models",
    "data": "Data",
    "training": "Training",
    "evaluation": "Evaluation",
    "arithmetic": "Arithmetic",
    "errors": "Errors",
}
RECORDED = (  # of cifarzoo.report
    *("load_runs", "load_results", "FinishedRun", "RunScore", "RunEnd", "Results", "Record"),
    *("Scores", "Failure", "Machine", "Source"),
)
ROOMS = {
    "models": ("registry", "models.", "weights", "spec.ModelCard", "spec.Weights"),
    "data": ("data.", "spec.Augmentation"),
    "training": ("run", "training.", "spec."),
    "evaluation": ("evaluation.",),
    "arithmetic": ("arithmetic.",),
    "errors": ("errors",),
}


def write_pages(folder: Path) -> None:
    """Write what is generated into the folder of the documentation's sources."""
    changelog = (folder.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    write_page(folder / "changelog.md", changelog)
    write_models(folder / "models")
    api = folder / "api"
    for room, names in _rooms().items():
        write_page(api / f"{room}.md", _api_page(KINDS[room], "cifarzoo", names))
    recorded = "\n".join(["# Recorded runs", "", *_entry("cifarzoo.report", *RECORDED)])
    write_page(api / "report.md", recorded)
    pictures = [name for name in zoo.viz.__all__ if callable(getattr(zoo.viz, name))]
    pictures = [name for name in pictures if not name.endswith("Name") and name != "CellValue"]
    write_page(api / "viz.md", _pictures_page(pictures))
    listed = "\n".join([*KINDS, "report", "viz"])
    write_page(api / "index.md", f"# Reference\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n")


def _rooms() -> dict[str, list[str]]:
    """Sort the public names by where they are defined."""
    found: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name in zoo.__all__:
        home = zoo._HOME_OF.get(name)
        if home is None or name in ("ModelName",):
            continue
        place = f"{home}.{name}"
        matches = {
            room: max((len(start) for start in starts if place.startswith(start)), default=0)
            for room, starts in ROOMS.items()
        }
        best = max(matches, key=lambda room: matches[room])
        if not matches[best]:
            raise ValueError(f"{place} belongs to none of {', '.join(ROOMS)}; add it to ROOMS")
        found[best].append(name)
    return found


def _api_page(title: str, module: str, names: list[str]) -> str:
    """Write the page of one kind: functions first, then what they take and give."""
    first = sorted(names, key=lambda name: isinstance(getattr(zoo, name), type))
    return "\n".join([f"# {title}", "", *_entry(module, *first)])


def _pictures_page(names: list[str]) -> str:
    """Write the page of `cifarzoo.viz`: every picture once, small; then each with its function."""
    drawn = [name for name in names if name.startswith("plot_")]
    lines = ["# Pictures", "", "```{eval-rst}", ".. py:module:: cifarzoo.viz", "```", ""]
    lines += [*(zoo.viz.__doc__ or "").splitlines(), ""]
    lines += [
        "All pictures here are of two networks that [learnt CIFAR-10](../tasks/pictures.rst).",
        "",
    ]
    lines += ["::::{grid} 2 2 3 3", ":gutter: 2", ":class-container: overview", ""]
    for name in drawn:
        lines += [f":::{{grid-item-card}} {name}", f":link: {name.replace('_', '-')}"]
        lines += [":link-type: ref", f"```{{picture}} {name}", ":small:", "```", ":::", ""]
    lines += ["::::", ""]
    for name in drawn:
        lines += [
            f"({name.replace('_', '-')})=",
            f"## {name}",
            "",
            f"```{{picture}} {name}",
            "```",
            "",
        ]
        lines += _entry("cifarzoo.viz", name)
    lines += ["## Beside them", ""]
    for name in names:
        if name not in drawn:
            lines += _entry("cifarzoo.viz", name)
    return "\n".join(lines)


def _entry(module: str, *names: str) -> list[str]:
    """Write what makes autodoc describe names of a module."""
    owner = importlib.import_module(module)
    lines = ["```{eval-rst}", f".. currentmodule:: {module}", ""]
    for name in names:
        value = getattr(owner, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        if isinstance(value, type) and issubclass(value, Exception):
            kind = "autoexception"
        lines += [f".. {kind}:: {name}", ""]
    return [*lines, "```", ""]
