"""`torch.hub` finds every model, and builds what `build_model` builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cifarzoo import build_model, list_models

ROOT = Path(__file__).parents[1]


def load(name: str, **options: Any) -> Any:  # noqa: ANN401 - whatever the entry point returns
    return torch.hub.load(str(ROOT), name, source="local", **options)  # type: ignore[no-untyped-call]


def test_every_model_is_an_entry_point(load_script: Callable[[str], ModuleType]) -> None:
    entries = vars(load_script("hubconf.py"))  # torch.hub lists the public callables
    found = {name for name, each in entries.items() if callable(each) and name[0] != "_"}
    assert found == set(list_models())
    assert entries["tiny_s"].__doc__.startswith("Our own")


def test_loaded_model_has_the_logits_of_build_model() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    loaded = load("resnet20", weights="default")
    assert not loaded.training
    assert torch.equal(loaded(images), build_model("resnet20", weights="default")(images))
    assert load("resnet20", num_classes=3)(images).shape == (4, 3)


CODE = """
import json, sys, torch
torch.hub.load(sys.argv[1], "resnet20", source="local", weights="default")
print(json.dumps([sys.modules["cifarzoo"].__file__, *(name for name in sys.modules)]))
"""


def test_clone_needs_no_installation(
    tmp_path: Path, load_script: Callable[[str], ModuleType]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file, *modules = json.loads(done.stdout)
    assert Path(file).is_relative_to(ROOT / "src")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[\[>]", each)[0].replace("-", "_") for each in project["dependencies"]}
    loaded = {name.partition(".")[0] for name in modules}
    assert loaded & required <= set(load_script("hubconf.py").dependencies)
