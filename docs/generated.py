"""Pages that are written anew at every build, from the cards and the changelog."""

from __future__ import annotations

from pathlib import Path

import cifarzoo as zoo

__all__ = ["write_pages"]

KINDS = {
    "models": "Models",
    "data": "Data",
    "training": "Training",
    "evaluation": "Evaluation",
    "arithmetic": "Arithmetic",
    "errors": "Errors",
}
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
    _write(folder / "changelog.md", changelog)
    _write(folder / "howto" / "choosing.md", _choosing())
    api = folder / "api"
    for room, names in _rooms().items():
        _write(api / f"{room}.md", _api_page(KINDS[room], "cifarzoo", names))
    pictures = [name for name in zoo.viz.__all__ if callable(getattr(zoo.viz, name))]
    pictures = [name for name in pictures if not name.endswith("Name") and name != "CellValue"]
    _write(api / "viz.md", _api_page("Pictures", "cifarzoo.viz", pictures))
    listed = "\n".join([*KINDS, "viz"])
    _write(api / "index.md", f"# Reference\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n")


def _write(path: Path, text: str) -> None:
    """Write a file unless it holds that already, so that Sphinx builds no page anew for nothing."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


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
        found[max(matches, key=lambda room: matches[room])].append(name)
    return found


def _api_page(title: str, module: str, names: list[str]) -> str:
    lines = [f"# {title}", "", "```{eval-rst}", f".. currentmodule:: {module}", ""]
    owner = zoo.viz if module == "cifarzoo.viz" else zoo
    for name in names:
        value = getattr(owner, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        if isinstance(value, type) and issubclass(value, Exception):
            kind = "autoexception"
        lines += [f".. {kind}:: {name}", ""]
    return "\n".join([*lines, "```", ""])


def _choosing() -> str:
    """Write the table of models."""
    rows = []
    for name in zoo.list_models():
        card = zoo.model_card(name)
        model = zoo.build_model(name, weights=None)
        params = zoo.count_params(model)
        macs = sum(row.macs for row in zoo.layer_table(model))
        rows.append(f"| `{name}` | {params:,} | {macs / 1e6:,.1f} M | {card.summary} |")
    return "\n".join(
        [
            "# Which model to take",
            "",
            "| name | parameters | multiply-accumulates | what it is |",
            "| --- | ---: | ---: | --- |",
            *rows,
            "",
            "- For a **baseline in minutes**: `sprint_m`; in a minute: `sprint_s`.",
            "- For **teaching**: the report's models, which are small and plain.",
            "- For the **highest accuracy** of this zoo: `sprint_l`.",
            "- For **transfer learning**: `resnet18_transfer`, whose backbone was trained on "
            "ImageNet.",
            "",
            "Accuracies, with their seeds, are in [](../speed.md).",
            "",
        ]
    )
