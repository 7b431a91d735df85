"""Entry points, errors, exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, get_args

import pytest
from typer.testing import CliRunner, Result

import cifarzoo
from cifarzoo.cli import options
from cifarzoo.cli.app import app
from cifarzoo.errors import UnknownModelError
from cifarzoo.run import DataName

Call: TypeAlias = Callable[..., Result]

COMMANDS = ("list", "info", "train", "evaluate", "predict", "report")


def test_help_names_every_command(call: Call) -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call: Call, command: str) -> None:
    result = call(command, "-h")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from cifarzoo.cli.app import app; app(['train', '--help'], "
        "standalone_mode=False); print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "cifarzoo.cli.train" in loaded
    assert not {"torch", "numpy", "matplotlib", "PIL"} & set(loaded)


def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifarzoo", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"cifarzoo {cifarzoo.__version__}\n"


def test_package_error_is_one_line_on_stderr(call: Call) -> None:
    result = call("info", "report_basline")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown model 'report_basline'; did you mean")
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_where_an_error_comes_from() -> None:
    result = CliRunner().invoke(app, ["--debug", "info", "nope"])
    assert isinstance(result.exception, UnknownModelError)
    result = CliRunner(env={"CIFARZOO_DEBUG": "1"}).invoke(app, ["info", "nope"])
    assert isinstance(result.exception, UnknownModelError)


@pytest.mark.parametrize(
    "arguments",
    [
        ("trian",),
        ("train",),
        ("train", "report_baseline", "--data", "shaps"),
        ("train", "report_baseline", "--seed", "-1"),
        ("train", "report_baseline", "--limit", "1"),
        ("predict", "report_baseline"),
        ("evaluate", "report_baseline", "--tta", "mirror"),
        ("train", "report_baseline", "--tta", "mirror"),
        ("list", "--nope"),
    ],
)
def test_wrong_usage_exits_with_2(call: Call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("train", "report_baseline", "--seed", "-1"),
            "'--seed': -1 is not allowed; needed is 0 or more",
        ),
        (
            ("train", "report_baseline", "--limit", "1"),
            "'--limit': 1 is not allowed; needed is 2 or more",
        ),
        (("train", "report_baseline", "--memory-limit", "nan"), "'--memory-limit': nan is not"),
        (("predict", "report_baseline", "a.png", "--top", "0"), "'--top': 0 is not allowed"),
        (
            ("train", "report_baseline", "--out", "~nobody-here/x"),
            "'--out': the path is '~nobody-here/x', which is no usable path (there is no such user",
        ),
        (("train", "report_baseline", "--memory-limit", "1e300"), "1e+300 is not allowed"),
        (("train", "report_baseline", "--checkpoint", "x" * 999), "File name too long"),
    ],
)
def test_a_wrong_value_is_told(call: Call, arguments: tuple[str, ...], told: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_interrupt_exits_with_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cifarzoo.registry.model_card", interrupted)
    result = call("info", "report_baseline")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_file_system_error_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x.png")

    monkeypatch.setattr("cifarzoo.registry.model_card", full)
    result = call("info", "report_baseline")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot use x.png (No space left on device); free space")
    assert len(result.stderr.splitlines()) == 1


def test_closed_pipe_is_not_an_error(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(name: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("cifarzoo.registry.model_card", closed)
    assert "error" not in call("info", "report_baseline").stderr


def test_options_offer_the_data_sets_that_there_are() -> None:
    assert get_args(options.DataName) == get_args(DataName)


def test_script_of_the_package_is_the_entry_point() -> None:
    from cifarzoo.cli import main

    assert main.__module__ == "cifarzoo.cli"
    assert Path(cifarzoo.__file__).with_name("__main__.py").is_file()
