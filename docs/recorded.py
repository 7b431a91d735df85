"""Directives that show what `python docs/record.py` recorded: `recorded` and `picture`."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).parent / "recorded"
REPOSITORY_FOLDER = "/recorded"  # as the documentation's sources see it
BORROWED = {"efficientnet_lite0": "task4_filters"}  # whose picture another example shows
THUMBNAIL = re.compile(r":alt:\n\n  :doc:`/tasks/(\w+)`")
DOWNLOAD_NOTE = re.compile(
    r"\.\. only:: html\n\n    \.\. note::\n(?:     .*\n|\n)+?(?=\.\. rst-class)"
)
SCRIPT = re.compile(r"\.\. GENERATED FROM PYTHON SOURCE LINES [\d-]+\n\n\.\. code-block:: Python")


@cache
def read_record(name: str) -> dict[str, Any]:
    """Read how an example ran."""
    path = FOLDER / name / "record.json"
    if not path.exists():
        raise FileNotFoundError(f"{name} is not recorded; run: python docs/record.py {name}")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def note_record(env: BuildEnvironment, name: str) -> None:
    """Have the page built anew when the record changes."""
    for path in (FOLDER / name).iterdir():
        env.note_dependency(path)


def conditions(record: dict[str, Any]) -> str:
    """Write how and where an example ran."""
    machine, source = record["machine"], record["source"]
    day = datetime.fromisoformat(record["date"]).date()
    minutes, seconds = divmod(record["seconds"], 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    changed = " with changes" if source["dirty"] else ""
    return (
        f"ran on {day} in {took} on {machine['threads']} threads of an "
        f"{machine['processor']} in {machine['precision']}, with torch "
        f"{source['versions']['torch']}, at commit {source['commit'][:10]}{changed}."
    )


def image(name: str, file: str, *classes: str) -> nodes.image:
    """Give a recorded picture, with what it says as its alternative text.

    It is as wide as the page. Where a width is set, Sphinx lets the picture lead to its file, so
    that it can be read on a phone.
    """
    pictures = read_record(name)["pictures"]
    if file not in pictures:
        raise KeyError(
            f"no picture {file!r} in docs/recorded/{name}; allowed: {', '.join(pictures)}"
        )
    says = pictures[file]
    uri = f"{REPOSITORY_FOLDER}/{name}/{file}"
    return nodes.image(uri=uri, alt=says, classes=list(classes), width="100%")


class Recorded(SphinxDirective):
    """What the example of this page, or the named one, printed and drew on CIFAR-10."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0] if self.arguments else Path(self.env.docname).name
        record = read_record(name)
        note_record(self.env, name)
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


def pair(name: str, light: str, dark: str) -> list[nodes.image]:
    """Give a picture for light pages and the one for dark pages."""
    return [image(name, light, "only-light"), image(name, dark, "only-dark")]


class Picture(SphinxDirective):
    """A picture of the example that draws them all, by the name of its function."""

    required_arguments = 1
    option_spec: ClassVar = {"small": directives.flag}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        note_record(self.env, "pictures")
        both = pair("pictures", f"{name}-light.webp", f"{name}-dark.webp")
        for each in both if "small" in self.options else ():
            del each["width"]
        return [*both]


class Order:
    """The examples in the order of the report's tasks, as their titles have it, then the others."""

    def __init__(self, src_dir: str) -> None:
        self.folder = Path(src_dir)

    def __call__(self, filename: str) -> tuple[bool, str]:
        title = (self.folder / filename).read_text(encoding="utf-8").splitlines()[1]
        return not title.startswith("Task"), title


def improve_gallery(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to sphinx-gallery's pages what they leave out, and take away what does not work.

    Thumbnails get an alternative text and the code a heading. A script alone cannot be run, for it
    shares `_arguments.py` with the others, so nothing is downloaded.
    """
    if not docname.startswith("tasks/"):
        return
    text = source[0]
    if docname == "tasks/index":
        text, changed = THUMBNAIL.subn(
            lambda match: f":alt: {thumbnail_text(match[1])}{match[0][5:]}", text
        )
    else:
        text, notes = DOWNLOAD_NOTE.subn("", text)
        text, mark, _ = text.partition("\n.. _sphx_glr_download")
        heading = "\nThe script\n----------\n\n"
        text, headings = SCRIPT.subn(lambda match: heading + match[0], text, count=1)
        changed = bool(mark) and notes and headings
    if not changed:
        raise ExtensionError(f"{docname}: sphinx-gallery writes its pages in another form now")
    source[0] = text


def thumbnail_text(name: str) -> str:
    """Say what the thumbnail of an example shows."""
    pictures: dict[str, str] = read_record(BORROWED.get(name, name))["pictures"]
    return next(iter(pictures.values()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("recorded", Recorded)
    app.add_directive("picture", Picture)
    app.connect("source-read", improve_gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
