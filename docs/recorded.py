"""The directives `recorded` and `picture`, which show what `python docs/record.py` recorded."""

from __future__ import annotations

import json
import re
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
EXAMPLES = Path(__file__).parents[1] / "examples"
BORROWED = {  # examples without a record, and the one whose figure is their thumbnail
    "efficientnet_lite0": "task4_filters",
    "experiments": "task3_ablation",
    "report_page": "task3_best_model",
}
THUMBNAIL = re.compile(r":alt:\n\n  :doc:`/tasks/(\w+)`")
DOWNLOAD_NOTE = re.compile(
    r"\.\. only:: html\n\n    \.\. note::\n(?:     .*\n|\n)+?(?=\.\. rst-class)"
)
HELPERS = {"experiments": "_example", "report_page": "_page"}  # pages, and the module each shows
IMPORT = re.compile(r"^    (?:from|import) (\w+)", re.MULTILINE)
SCRIPT = re.compile(r"\.\. GENERATED FROM PYTHON SOURCE LINES [\d-]+\n\n\.\. code-block:: Python")


@cache
def read_record(name: str) -> dict[str, Any]:
    """Read the record of an example."""
    path = FOLDER / name / "record.json"
    if not path.exists():
        raise FileNotFoundError(f"{name} is not recorded; run: python docs/record.py {name}")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def depend_on_record(env: BuildEnvironment, name: str) -> None:
    """Rebuild the page when the record changes."""
    for path in (FOLDER / name).iterdir():
        env.note_dependency(path)


def image(name: str, file: str, *classes: str) -> nodes.image:
    """Return a recorded figure with its description as the alternative text.

    It is as wide as the page. Sphinx links a figure that has a width to its file.
    """
    uri, alt = f"/recorded/{name}/{file}", read_record(name)["pictures"][file]
    return nodes.image(uri=uri, alt=alt, classes=list(classes), width="100%")


def pair(name: str, stem: str) -> list[nodes.image]:
    """Return a figure for light pages and its version for dark pages."""
    return [image(name, f"{stem}-{theme}.webp", f"only-{theme}") for theme in ("light", "dark")]


class Recorded(SphinxDirective):
    """The output and the figures of this page's example."""

    def run(self) -> list[nodes.Node]:
        name = Path(self.env.docname).name
        record = read_record(name)
        depend_on_record(self.env, name)
        printed = (FOLDER / name / "output.txt").read_text(encoding="utf-8").rstrip()
        found: list[nodes.Node] = []
        if printed:
            found.append(nodes.literal_block(printed, printed, language="none"))
        for file in record["pictures"]:
            if file.endswith("-light.webp"):
                found += pair(name, file.removesuffix("-light.webp"))
            elif not file.endswith("-dark.webp"):
                found.append(image(name, file, "paper"))
        where = record["provenance"]
        text = f" on {where['date'][:10]}, with torch {where['versions']['torch']}."
        how = nodes.paragraph(classes=["conditions"])
        how += [nodes.literal(text=record["command"]), nodes.Text(text)]
        return [*found, how]


class Picture(SphinxDirective):
    """A figure of `cifarzoo.viz`, by the name of its function."""

    required_arguments = 1
    option_spec: ClassVar = {"small": directives.flag}

    def run(self) -> list[nodes.Node]:
        depend_on_record(self.env, "pictures")
        both = pair("pictures", self.arguments[0])
        for each in both if "small" in self.options else ():
            del each["width"]
        return [*both]


class Order:
    """Sorts the report's tasks by title, before the other examples."""

    def __init__(self, src_dir: str) -> None:
        self.folder = Path(src_dir)

    def __call__(self, filename: str) -> tuple[bool, str]:
        title = (self.folder / filename).read_text(encoding="utf-8").splitlines()[1]
        return not title.startswith("Task"), title


def improve_gallery(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add alternative texts and a heading to sphinx-gallery's pages; remove the downloads.

    A script imports others and does not run on its own, so it is not offered for download.
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
        heading = f"\nThe script\n----------\n\n{imports(text)}\n\n"
        text, headings = SCRIPT.subn(lambda match: heading + match[0], text, count=1)
        changed = bool(mark) and notes and headings
        if helper := HELPERS.get(docname.removeprefix("tasks/")):
            text += shared(helper)
    if not changed:
        raise ExtensionError(f"{docname}: the format of sphinx-gallery's pages has changed")
    source[0] = text


def imports(text: str) -> str:
    """Return a sentence with links to the other examples that a script imports."""
    links = []
    for name in sorted(set(IMPORT.findall(text))):
        if name in HELPERS.values():
            links.append(f":ref:`{name}.py <code{name}>`")
        elif (EXAMPLES / f"{name}.py").exists():
            links.append(f":doc:`{name}.py </tasks/{name}>`")
    return f"Imported from the same folder: {', '.join(links)}." if links else ""


def shared(name: str) -> str:
    """Return a section with the code of a module that scripts share."""
    title = f"The module ``{name}.py``"
    heading = f"\n\n.. _code{name}:\n\n{title}\n{'-' * len(title)}\n\n"
    return f"{heading}.. literalinclude:: /../examples/{name}.py\n    :language: python\n"


def thumbnail_text(name: str) -> str:
    """Return the description of an example's thumbnail."""
    pictures: dict[str, str] = read_record(BORROWED.get(name, name))["pictures"]
    return next(iter(pictures.values()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("recorded", Recorded)
    app.add_directive("picture", Picture)
    app.connect("source-read", improve_gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
