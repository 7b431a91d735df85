"""Directives that show what `python docs/record.py` recorded: `recorded` and `picture`."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx

FOLDER = Path(__file__).parent / "recorded"
REPOSITORY_FOLDER = "/recorded"  # as the documentation's sources see it
THUMBNAIL = re.compile(r":alt:\n\n  :doc:`(\S+)`")


@cache
def read_record(name: str) -> dict[str, Any]:
    """Read how an example ran."""
    path = FOLDER / name / "record.json"
    if not path.exists():
        raise FileNotFoundError(f"{name} is not recorded; run: python docs/record.py {name}")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def conditions(record: dict[str, Any]) -> str:
    """Write how and where an example ran."""
    machine, source = record["machine"], record["source"]
    day = datetime.fromisoformat(record["date"]).date()
    minutes, seconds = divmod(record["seconds"], 60)
    changed = " with changes" if source["dirty"] else ""
    return (
        f"ran on {day} in {minutes} min {seconds:02} s on {machine['threads']} threads of an "
        f"{machine['processor']} in {machine['precision']}, with torch "
        f"{source['versions']['torch']}, at commit {source['commit'][:10]}{changed}."
    )


def image(name: str, file: str, *classes: str) -> nodes.image:
    """Give a recorded picture, with what it says as its alternative text."""
    says = read_record(name)["pictures"][file]
    return nodes.image(uri=f"{REPOSITORY_FOLDER}/{name}/{file}", alt=says, classes=list(classes))


class Recorded(Directive):
    """What the example of this page, or the named one, printed and drew on CIFAR-10."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        name = self.arguments[0] if self.arguments else Path(env.docname).name
        record = read_record(name)
        env.note_dependency(FOLDER / name / "record.json")
        printed = (FOLDER / name / "output.txt").read_text(encoding="utf-8").rstrip()
        found: list[nodes.Node] = []
        if printed:
            found.append(nodes.literal_block(printed, printed, language="none"))
        for file in record["pictures"]:
            if not file.endswith("-dark.webp"):
                twin = file.replace("-light.webp", "-dark.webp")
                found += pair(name, file, twin) if twin != file else [image(name, file, "paper")]
        how = nodes.paragraph(classes=["conditions"])
        how += [nodes.literal(text=record["command"]), nodes.Text(" " + conditions(record))]
        return [*found, how]


def pair(name: str, light: str, dark: str) -> list[nodes.Node]:
    """Give a picture for light pages and the one for dark pages."""
    return [image(name, light, "only-light"), image(name, dark, "only-dark")]


class Picture(Directive):
    """A picture of the example that draws them all, by the name of its function."""

    required_arguments = 1
    option_spec = {"link": directives.uri}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        return pair("pictures", f"{name}-light.webp", f"{name}-dark.webp")


def describe_thumbnails(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the thumbnails of sphinx-gallery the alternative text that it leaves out."""

    def described(match: re.Match[str]) -> str:
        name = match[1].rpartition(".")[2].removeprefix("sphx_glr_tasks_")
        return match[0].replace(":alt:", f":alt: A picture from {name}")

    source[0] = THUMBNAIL.sub(described, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("recorded", Recorded)
    app.add_directive("picture", Picture)
    app.connect("source-read", describe_thumbnails)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
