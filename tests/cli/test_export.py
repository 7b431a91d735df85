"""`cifarzoo export` writes files that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("to", ["onnx", "torch", "onnx-int8"])
def test_command_line_exports(
    call: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", "shapes", "--limit", "200") if to == "onnx-int8" else ()
    shown = call("export", "tiny_s", "--to", to, *options).stdout
    (path,) = tmp_path.iterdir()
    assert path.name in shown
    assert "logits differ by at most" in shown
    assert ("test accuracy" in shown) == (to == "onnx-int8")
    assert (
        "float32" in call("export", "tiny_s", "--to", "torch", "--dtype", "float16", code=2).stderr
    )
