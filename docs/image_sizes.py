"""Writes every picture's width and height into the pages, so that no page jumps while it loads."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from sphinx.application import Sphinx

IMAGE = re.compile(r'<img (?![^>]*\bwidth="\d)[^>]*?src="(?!data:|https?:)([^"?#]+)[^>]*>')


@cache
def size_of(path: Path) -> tuple[int, int]:
    """Give a picture's width and height in pixels; of an SVG those of its view box."""
    if path.suffix != ".svg":
        with Image.open(path) as image:
            return image.size
    box = ElementTree.parse(path).getroot().attrib["viewBox"].split()
    return round(float(box[2])), round(float(box[3]))


def write_sizes(app: Sphinx, failed: Exception | None) -> None:
    """Go through the pages that were built."""
    if failed is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):

        def sized(match: re.Match[str], folder: Path = page.parent) -> str:
            width, height = size_of((folder / match[1]).resolve())
            return f'<img width="{width}" height="{height}" {match[0][5:]}'

        text = page.read_text(encoding="utf-8")
        wanted = IMAGE.sub(sized, text)
        if wanted != text:
            page.write_text(wanted, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Do it at the end."""
    app.connect("build-finished", write_sizes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
