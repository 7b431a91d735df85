"""Write the pages that every build generates from the code, the records and the changelog."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from leaderboard import write_models, write_page
from sphinx.util.typing import stringify_annotation

import cifarzoo as zoo

__all__ = ["TYPES", "write_pages"]

# Prefixes of modules whose top-level names are listed, then further modules; None lists all names.
PAGES: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...] | None]]] = {
    "Models": (
        ("card", "registry", "models.", "weights"),
        {"models.transfer": ("TransferClassifier", "BackboneWeights"), "weights": None},
    ),
    "Data": (
        ("data.",),
        {
            "data.loader": ("BatchLoader", "HasEpochs", "Resumable", "Fingerprinted", "Shardable"),
            "data.features": None,
        },
    ),
    "Training": (
        ("recipe", "record", "run", "training."),
        {
            "run": ("load_data", "load_runs", "provenance", "ScoredRun"),
            "record": None,
            "training.callbacks": None,
        },
    ),
    "Evaluation": (
        ("evaluation.",),
        {
            "evaluation.statistics": None,
            "evaluation.corruptions": None,
            "evaluation.attack": None,
        },
    ),
    "Export": (("export",), {"export": None}),
    "Arithmetic": (("arithmetic.",), {"arithmetic": None}),
    "Errors": (("errors",), {"errors": None}),
}

# Type aliases by page and module. Signatures show their names.
TYPES: dict[str, dict[str, tuple[str, ...]]] = {
    "Data": {"data.augment": ("Transform",), "data.loader": ("Batch",)},
    "Training": {
        "recipe": ("Compile", "OptimizerName", "PaddingName", "PrecisionName", "ScheduleName"),
        "run": ("DataName",),
        "training.loss": ("Loss",),
        "training.optim": ("OptimizerFactory", "Schedule"),
    },
    "Evaluation": {
        "recipe": ("TtaName",),
        "data.image_file": ("Images", "Source"),
        "evaluation.classifier": ("Classifier", "Classify"),
        "evaluation.compare": ("DesignName",),
    },
}


def write_pages(folder: Path) -> None:
    """Write the generated pages into the folder of the documentation's sources."""
    changelog = (folder.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    write_page(folder / "changelog.md", changelog)
    write_models(folder / "models")
    api = folder / "api"
    for title in PAGES:
        write_page(api / f"{title.lower()}.md", _api_page(title))
    write_page(api / "viz.md", _pictures_page())
    contents = "\n".join([*map(str.lower, PAGES), "viz"])
    write_page(
        api / "index.md", f"# Reference\n\n```{{toctree}}\n:maxdepth: 1\n\n{contents}\n```\n"
    )


def _api_page(title: str) -> str:
    """Return a page of the reference: the names at the top of the package, then other names."""
    homes, modules = PAGES[title]
    starts = tuple(f"cifarzoo.{home}" for home in homes)
    names = [name for name in _documented(zoo) if getattr(zoo, name).__module__.startswith(starts)]
    lines = [f"# {title}", "", *_entry(zoo, names)]
    for module_name, chosen in modules.items():
        module = importlib.import_module(f"cifarzoo.{module_name}")
        others = [name for name in _documented(module) if name not in _documented(zoo)]
        lines += _entry(module, chosen or others)
    if title in TYPES:
        lines += ["## Types", "", *_aliases(TYPES[title])]
    return "\n".join(lines)


def _documented(module: ModuleType) -> list[str]:
    """Return the names of a module's public functions, then of its classes."""
    values = {name: getattr(module, name) for name in vars(module)["__all__"]}
    functions = [name for name, value in values.items() if inspect.isfunction(value)]
    return functions + [name for name, value in values.items() if inspect.isclass(value)]


def _pictures_page() -> str:
    """Return the page of `cifarzoo.viz`: an overview of all plots, then each with its function."""
    names = _documented(zoo.viz)
    plots = [name for name in names if name.startswith("plot_")]
    lines = ["# Pictures", "", "```{eval-rst}", ".. py:module:: cifarzoo.viz", "```", ""]
    lines += [*(zoo.viz.__doc__ or "").splitlines(), ""]
    lines += ["The figures are made by [this example](../tasks/pictures.rst).", ""]
    lines += ["::::{grid} 2 2 3 3", ":gutter: 2", ":class-container: overview", ""]
    for name in plots:
        lines += [f":::{{grid-item-card}} {name}", f":link: {name.replace('_', '-')}"]
        lines += [":link-type: ref", f"```{{picture}} {name}", ":small:", "```", ":::", ""]
    lines += ["::::", ""]
    for name in plots:
        lines += [f"({name.replace('_', '-')})=", f"## {name}", ""]
        lines += [f"```{{picture}} {name}", "```", "", *_entry(zoo.viz, [name])]
    lines += ["## Other names", "", *_entry(zoo.viz, [n for n in names if n not in plots])]
    return "\n".join(lines)


def _entry(module: ModuleType, names: Iterable[str]) -> list[str]:
    """Return the directives by which autodoc describes names of a module."""
    lines = ["```{eval-rst}", f".. currentmodule:: {module.__name__}", ""]
    for name in names:
        value = getattr(module, name)
        kind = "class" if inspect.isclass(value) else "function"
        if inspect.isclass(value) and issubclass(value, Exception):
            kind = "exception"
        lines += [f".. auto{kind}:: {name}", ""]
    return [*lines, "```", ""]


def _aliases(modules: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the directives that define type aliases."""
    lines = ["```{eval-rst}"]
    for module_name, names in modules.items():
        module = importlib.import_module(f"cifarzoo.{module_name}")
        lines += [f".. currentmodule:: {module.__name__}", ""]
        for name in names:
            canonical = stringify_annotation(getattr(module, name), "smart")
            lines += [f".. py:type:: {name}", f"   :canonical: {canonical}", ""]
    return [*lines, "```", ""]
