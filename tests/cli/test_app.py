"""Entry points, errors and exit codes."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

import cifarzoo
from cifarzoo.cli import options
from cifarzoo.cli.app import app
from cifarzoo.errors import InvalidValueError
from cifarzoo.run import DataName

Call = Callable[..., Result]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_help_names_every_command(call: Call) -> None:
    text = call("--help").stdout
    for command in ("list", "info", "train", "evaluate", "predict"):
        assert command in text
        call(command, "-h")


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from cifarzoo.cli.app import app; app(['train', '--help'], "
        "standalone_mode=False); print(*sorted(sys.modules))"
    )
    imported = python("-c", code).stdout.splitlines()[-1].split()
    assert "cifarzoo.cli.train" in imported
    assert not {"torch", "numpy", "matplotlib", "PIL"} & set(imported)


def test_module_runs_the_command() -> None:
    assert python("-m", "cifarzoo", "--version").stdout == f"cifarzoo {cifarzoo.__version__}\n"


def test_error_is_one_line_on_stderr(call: Call) -> None:
    result = call("info", "report_basline", code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown model 'report_basline'")
    assert "did you mean 'report_baseline'?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    for arguments, env in ((["--debug"], {}), ([], {"CIFARZOO_DEBUG": "1"})):
        result = CliRunner(env=env).invoke(app, [*arguments, "info", "nope"])
        assert isinstance(result.exception, InvalidValueError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "trian"),
        (("train", "report_baseline", "--data", "shaps"), "--data"),
        (("train", "report_baseline", "--seed", "-1"), "--seed"),
        (("train", "report_baseline", "--seeds", "1,x"), "such as 0,1,2"),
        (("train", "report_baseline", "--limit", "1"), "--limit"),
        (("predict", "report_baseline", "a.png", "--top", "0"), "--top"),
    ],
)
def test_wrong_usage_exits_with_2(call: Call, arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments, code=2)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("raised", "code", "stderr"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x\x1b.png"),
            1,
            "error: [Errno 28] No space left on device: 'x\\x1b.png'\n",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_interruptions_and_system_errors_set_the_exit_code(
    call: Call, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, stderr: str
) -> None:
    def fail(name: str) -> None:
        raise raised

    monkeypatch.setattr("cifarzoo.registry.model_card", fail)
    assert call("info", "report_baseline", code=code).stderr == stderr


def test_options_offer_the_data_sets_of_the_library() -> None:
    assert get_args(options.DataName) == get_args(DataName)
