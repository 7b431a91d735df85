from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from PIL import Image
from typer.testing import Result

from cifarzoo import build_model, predict
from cifarzoo.cli.loading import class_names
from cifarzoo.cli.pictures import read_picture

Call: TypeAlias = Callable[..., Result]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "blue.png"
    Image.new("RGB", (64, 48), (0, 0, 255)).save(path)
    return path


def test_probabilities_are_the_models(call: Call, trained: Path, image: Path) -> None:
    weights = trained / "weights.safetensors"
    result = call(
        "predict", "report_baseline", image, "--weights", weights, "--top", "99", "--json"
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    (entry,) = record["images"]
    assert record["data"] == "shapes"
    assert entry["image"] == str(image)
    shares = {each["class"]: each["probability"] for each in entry["predictions"]}
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert sum(shares.values()) == pytest.approx(1)
    model = build_model("report_baseline", weights=weights)
    expected = model(read_picture(image).pixels[None]).softmax(1)[0].tolist()
    names = class_names("shapes")
    assert shares == pytest.approx(dict(zip(names, expected, strict=True)), rel=0.05)


def test_table_names_three_classes_and_what_was_cut(call: Call, trained: Path, image: Path) -> None:
    result = call("predict", "report_baseline", image, "--weights", trained / "weights.safetensors")
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["image", "guess", "probability"]
    assert len(rows) == 3
    assert all(row.startswith(str(image)) and row.endswith(" %") for row in rows)
    assert f"report_baseline, weights {trained / 'weights.safetensors'}" in result.stderr
    assert f"{image}: 64×48 pixels: only its central 48×48 are looked at" in result.stderr


def test_classes_follow_the_data(call: Call, trained: Path, image: Path) -> None:
    weights = trained / "weights.safetensors"
    result = call(
        "predict", "report_baseline", image, "--weights", weights, "--data", "cifar10", "--json"
    )
    (entry,) = json.loads(result.stdout)["images"]
    assert {each["class"] for each in entry["predictions"]} <= set(class_names("cifar10"))
    assert "were trained on shapes" in result.stderr


def test_bad_files_are_named_and_the_others_are_answered(
    call: Call, trained: Path, image: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text\x1b[31m[red].png"
    text.write_text("no image")
    gone = tmp_path / "gone\nerror: all is well\n.png"
    long = tmp_path / (300 * "x")
    weights = trained / "weights.safetensors"
    images = (text, long, image, gone)
    result = call("predict", "report_baseline", *images, "--weights", weights, "--json")
    assert result.exit_code == 1
    assert [entry["image"] for entry in json.loads(result.stdout)["images"]] == [str(image)]
    assert "text\\x1b[31m[red].png is not an image" in result.stderr
    assert r"gone\nerror: all is well\n.png does not exist" in result.stderr
    assert "File name too long" in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert "\x1b" not in result.output


def test_no_picture_at_all_prints_no_table(call: Call, trained: Path, tmp_path: Path) -> None:
    weights = trained / "weights.safetensors"
    result = call("predict", "report_baseline", tmp_path, "--weights", weights)
    assert result.exit_code == 1
    assert result.stdout == ""


def test_several_views_are_averaged(call: Call, trained: Path, image: Path) -> None:
    weights = trained / "weights.safetensors"
    options = ("predict", "report_baseline", image, "--weights", weights, "--top", "20", "--json")
    result = call(*options, "--tta", "flip", "--precision", "float32")
    record = json.loads(result.stdout)
    assert (record["tta"], record["weights"]) == ("flip", str(weights))
    (entry,) = record["images"]
    model = build_model("report_baseline", weights=weights)
    found = predict(model, read_picture(image).pixels[None], precision="float32", tta="flip")
    shares = {each["class"]: each["probability"] for each in entry["predictions"]}
    names = class_names("shapes")
    assert shares == pytest.approx(dict(zip(names, found.probabilities[0].tolist(), strict=True)))
