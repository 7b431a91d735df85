"""A small training run that most tests of the command line use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cifarzoo.cli.app import app

TINY = (
    *("--data", "shapes", "--limit", "100", "--epochs", "1", "--batch-size", "20"),
    *("--device", "cpu"),  # hosted Macs have no memory for MPS
)


@pytest.fixture(scope="session")
def call() -> Callable[..., Result]:
    """Return a function that runs a command in this process and checks its exit code."""

    def run(*arguments: str | Path, code: int = 0) -> Result:
        runner = CliRunner(env={"CIFARZOO_DEBUG": None})
        result = runner.invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a training run of one second."""
    return TINY


@pytest.fixture(scope="session")
def trained(call: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of report_baseline; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    call("train", "report_baseline", *TINY, "--out", folder, "--quiet")
    return folder
