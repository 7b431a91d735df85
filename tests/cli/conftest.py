"""One small training that most tests of the command line look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cifarzoo import Recipe, Weights
from cifarzoo.cli.app import app

TINY = ("--data", "shapes", "--limit", "100", "--epochs", "1", "--batch-size", "20")


@pytest.fixture(scope="session", autouse=True)
def no_terminal() -> Iterator[None]:
    """Keep output plain, whatever the one who runs the tests has asked rich for."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def call() -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Result:
        runner = CliRunner(env={"CIFARZOO_DEBUG": None})
        return runner.invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a training that takes a second."""
    return TINY


@pytest.fixture(scope="session")
def trained(call: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = call("train", "report_baseline", *TINY, "--out", folder, "--quiet")
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def published() -> Weights:
    """An entry of a card's trained weights."""
    return Weights(
        tag="v1",
        sha256="0" * 64,
        size_bytes=1,
        accuracy=0.8058,
        interval=(0.798, 0.8134),
        mean=0.80612,
        std=0.0021,
        seeds=(0, 1, 2),
        seed=1,
        recipe=Recipe(),
        seconds=12.5,
        machine="A Processor, 2 cores, 2 threads, cpu, float32",
        views=0.8123,
    )
