from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import Result

Call: TypeAlias = Callable[..., Result]


class Stub:
    """Stands in for `run_report`, which has its own tests."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.given: dict[str, Any] = {}

    def __call__(self, out: Path, **options: Any) -> Path:  # noqa: ANN401
        self.given = {"out": out, **options}
        options["on_message"]("baseline, seed 0: [test] 72 %")
        return self.page


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    run = Stub(tmp_path / "report.html")
    monkeypatch.setattr("cifarzoo.report.run_report", run)
    return run


def test_defaults_run_everything_over_three_seeds(call: Call, stub: Stub) -> None:
    result = call("report")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{stub.page}\n"
    assert result.stderr == "baseline, seed 0: [test] 72 %\n"
    del stub.given["on_message"]
    assert stub.given == {
        "out": Path("results"),
        "data": "cifar10",
        "root": None,
        "seeds": (0, 1, 2),
        "experiments": None,
        "mode": "full",
        "weights": None,
        "device": "auto",
        "precision": "auto",
        "progress": False,
    }


def test_options_are_passed_on(call: Call, stub: Stub, tmp_path: Path) -> None:
    options = f"--out {tmp_path} --data shapes --seeds 3,5 --only baseline,best --quick --quiet"
    result = call("report", *options.split(" "), "--weights", "resnet.pth")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert stub.given["out"] == tmp_path
    assert stub.given["data"] == "shapes"
    assert stub.given["seeds"] == (3, 5)
    assert stub.given["experiments"] == ("baseline", "best")
    assert stub.given["mode"] == "quick"
    assert stub.given["weights"] == "resnet.pth"


def test_seeds_that_are_no_numbers_are_wrong_usage(call: Call, stub: Stub) -> None:
    result = call("report", "--seeds", "0,one")
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "'0,one' is not allowed; needed are whole numbers, such as 0,1,2" in said


def test_interrupt_says_how_to_go_on(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(out: Path, **options: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("cifarzoo.report.run_report", interrupted)
    result = call("report", "--out", tmp_path)
    assert result.exit_code == 130
    assert f"goes on from what is done in {tmp_path}" in result.stderr


def test_unknown_experiment_is_an_error(call: Call, tmp_path: Path) -> None:
    result = call("report", "--only", "baselin", "--out", tmp_path, "--quick", "--data", "shapes")
    assert result.exit_code == 1
    assert "'baselin'" in result.stderr
    assert "baseline" in result.stderr
