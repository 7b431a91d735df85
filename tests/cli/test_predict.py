from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from cifarzoo import Run, predict
from cifarzoo.data import CLASSES, SHAPE_CLASSES
from cifarzoo.data.image_file import read_image

Call = Callable[..., Result]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "blue.png"
    Image.new("RGB", (64, 48), (0, 0, 255)).save(path)
    return path


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_probabilities_are_those_of_the_model(
    call: Call, trained: Path, image: Path, tta: str
) -> None:
    options = ("--weights", trained / "weights.safetensors", "--top", "99", "--json", "--tta", tta)
    result = call("predict", "report_baseline", image, *options)
    record = json.loads(result.stdout)
    assert (record["data"], record["tta"]) == ("shapes", tta)
    (entry,) = record["images"]
    assert entry["image"] == str(image)
    found = {each["class"]: each["probability"] for each in entry["predictions"]}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    model = Run.load(trained).model
    expected = predict(model, read_image(image)[None], tta=tta).probabilities[0]  # type: ignore[arg-type]
    assert found == pytest.approx(dict(zip(SHAPE_CLASSES, expected.tolist(), strict=True)))


def test_table_shows_the_top_classes(call: Call, trained: Path, image: Path) -> None:
    options = ("--weights", trained / "weights.safetensors", "--data", "cifar10", "--top", "2")
    result = call("predict", "report_baseline", image, *options)
    header, *rows = [line.split() for line in result.stdout.splitlines()]
    assert header == ["image", "class", "probability"]
    assert len(rows) == 2
    assert {row[1] for row in rows} <= set(CLASSES)
    assert "were trained on shapes, not on cifar10" in result.stderr


def test_bad_files_are_named_and_the_others_classified(
    call: Call, trained: Path, image: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text\x1b[31m[red].png"
    text.write_text("not an image")
    missing, long = tmp_path / "gone\nerror: fine\n.png", tmp_path / (300 * "x")
    options = ("--weights", trained / "weights.safetensors", "--json")
    result = call("predict", "report_baseline", text, long, image, missing, *options, code=1)
    assert [entry["image"] for entry in json.loads(result.stdout)["images"]] == [str(image)]
    assert "text\\x1b[31m[red].png" in result.stderr
    assert len(result.stderr.splitlines()) == 3
    assert "\x1b" not in result.output
    assert call("predict", "report_baseline", tmp_path, *options[:2], code=1).stdout == ""
