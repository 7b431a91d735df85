"""The documentation shows what the current code of the examples printed and drew."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("record", ROOT / "docs" / "record.py")
assert SPEC is not None
assert SPEC.loader is not None
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def read(name: str) -> dict[str, Any]:
    path = ROOT / "docs" / "recorded" / name / "record.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def test_every_example_is_recorded() -> None:
    recorded = {path.name for path in (ROOT / "docs" / "recorded").iterdir()}
    assert recorded == set(tool.EXAMPLES)
    assert all((ROOT / "examples" / f"{name}.py").exists() for name in recorded)


@pytest.mark.parametrize("name", tool.EXAMPLES)
def test_record_was_made_by_the_current_code(name: str) -> None:
    record = read(name)
    assert record["command"] == tool.command_of(name)
    assert record["code"] == tool.code_hash(name), f"run: python docs/record.py {name}"
    assert record["provenance"]["commit"]
    assert record["provenance"]["dirty"] is False


def test_training_is_recorded_with_three_seeds() -> None:
    training = [name for name in tool.EXAMPLES if re.match("task[23]|task4_transfer", name)]
    assert all("--seeds 0,1,2" in read(name)["command"] for name in training)


@pytest.mark.parametrize("name", tool.EXAMPLES)
def test_record_is_complete(name: str) -> None:
    folder, pictures = ROOT / "docs" / "recorded" / name, read(name)["pictures"]
    assert {path.name for path in folder.iterdir()} == {"output.txt", "record.json", *pictures}
    for file, description in pictures.items():
        assert len(description.split()) >= 3
        with Image.open(folder / file) as picture:
            assert picture.width >= 600
    assert "trial run" not in (folder / "output.txt").read_text(encoding="utf-8")


def test_prose_can_change_without_a_new_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").mkdir()
    page = tmp_path / "examples" / "page.py"
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    hashes = []
    for text in (
        '"""Old."""\nprint(1)\n',
        '"""New."""\n# why\nprint(1)\n',
        '"""New."""\nprint(2)\n',
    ):
        page.write_text(text, encoding="utf-8")
        hashes.append(tool.code_hash("page"))
    assert hashes[0] == hashes[1] != hashes[2]
