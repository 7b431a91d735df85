from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cifarzoo.report.pictures import (
    NARROW_WIDTH,
    Picture,
    curves_picture,
    framed_picture,
    png_of,
    stored_picture,
)


def draw() -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    line = left.plot([0, 1], [1, 0], color="#0072B2")[0]
    right.plot([0, 1], [0, 1], color="black")
    right.set_xlabel("training step")
    figure.legend([line], ["a line"], loc="outside lower center")
    return figure


def svg_of(uri: str | None) -> str:
    assert uri is not None
    kind, _, content = uri.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.fixture(scope="module")
def curves() -> Picture:
    return curves_picture(draw(), alt="two lines", caption="Two lines.")


def size_of(svg: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found is not None
    return float(found[1]), float(found[2])


def test_panels_stand_above_one_another_where_it_is_narrow(curves: Picture) -> None:
    assert size_of(svg_of(curves.wide)) == (9 * 72, 4 * 72)
    width, height = size_of(svg_of(curves.narrow))
    assert width == pytest.approx(NARROW_WIDTH * 72)
    assert height > width
    assert (curves.width, curves.height) == (9 * 96, 4 * 96)


def test_nothing_is_loaded_from_elsewhere(curves: Picture) -> None:
    for svg in (svg_of(curves.wide), svg_of(curves.narrow)):
        without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)
        without_names = re.sub(r"<metadata>.*?</metadata>", "", without_names, flags=re.S)
        assert "http" not in without_names
        assert "@import" not in svg


def test_black_follows_the_page(curves: Picture) -> None:
    svg = svg_of(curves.wide)
    sheet, _, drawing = svg.partition("</style>")
    assert "prefers-color-scheme:dark" in sheet
    assert "#000000" not in drawing
    assert "stroke: var(--c" in drawing
    assert "#0072b2" not in drawing.lower()


def test_same_figure_gives_the_same_bytes(curves: Picture) -> None:
    assert curves_picture(draw(), alt="two lines", caption="Two lines.") == curves


def test_png_keeps_its_size(tmp_path: Path) -> None:
    figure = Figure(figsize=(4, 2))
    framed = framed_picture(figure, alt="nothing", caption="")
    path = tmp_path / "a.png"
    path.write_bytes(png_of(figure))
    stored = stored_picture(path, alt="nothing", caption="")
    assert framed == stored
    assert framed.narrow is None
    assert (framed.width, framed.height) == (4 * 96, 2 * 96)
    assert framed.wide.startswith("data:image/png;base64,")
