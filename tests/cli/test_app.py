"""Entry points, errors and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import cifarzoo
from cifarzoo.cli import options
from cifarzoo.cli.app import app
from cifarzoo.run import DataName

Call = Callable[..., Result]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_help_names_every_command(call: Call) -> None:
    text = call("--help").stdout
    for command in ("list", "info", "train", "evaluate", "predict", "compare", "export", "data"):
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
    result = call("info", "report_basline", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown model 'report_basline'")
    assert "did you mean 'report_baseline'?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback_without_terminal_escapes() -> None:
    for arguments, env in ((["--debug"], {}), ([], {"CIFARZOO_DEBUG": "1"})):
        result = CliRunner(env=env).invoke(app, [*arguments, "info", "no\x1b[31m\u202epe"])
        assert result.exit_code == 2
        first, *_, last = result.stderr.splitlines()
        assert first == "Traceback (most recent call last):"
        assert "InvalidValueError: unknown model" in last
        assert result.stderr.replace("\n", "").isprintable()


def test_unexpected_errors_show_the_traceback_without_terminal_escapes(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise LookupError("a\x1b[2Jb")

    monkeypatch.setattr("cifarzoo.registry.model_card", fail)
    result = call("info", "report_baseline", code=1)
    assert result.stderr.splitlines()[-1] == "LookupError: a\\x1b[2Jb"


@pytest.mark.parametrize("arguments", [("--\x1b[31m",), ("info", "x", "\x1b"), ("\x1b[31mlist",)])
def test_usage_errors_cannot_control_a_terminal(call: Call, arguments: tuple[str, ...]) -> None:
    result = call(*arguments, code=2)
    assert "\\x1b" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "trian"),
        (("train", "report_baseline", "--data", "shaps"), "'--data': 'shaps' is not one of"),
        (("train", "report_baseline", "--lr", "-1"), "--lr"),
        (("train", "report_baseline", "--lr", "0"), "lr is 0"),
        (("train", "report_baseline", "--lr", "nan"), "lr"),
        (("train", "report_baseline", "--batch-size", "0"), "--batch-size"),
        (("train", "report_baseline", "--epochs", "0"), "--epochs"),
        (("train", "report_baseline", "--recipe", "nope"), "nope"),
        (("train", "report_baseline", "--seed", "-1"), "--seed"),
        (("train", "report_baseline", "--seeds", "0,-1"), "such as 0,1,2"),
        (("evaluate", "tiny_s", "--device", "gpu", "--data", "shapes"), "gpu"),
        (("evaluate", "tiny_s", "--precision", "half"), "--precision"),
        (("list", "--family", "nope"), "nope"),
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


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_consoles_without_unicode_show_every_command(
    trained: Path, tiny: tuple[str, ...], tmp_path: Path, encoding: str
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "犬.png")
    weights = str(trained / "weights.safetensors")
    commands = [
        ["--help"],
        ["train", "--help"],
        ["list", "tiny_s"],
        ["data"],
        ["info", "tiny_s"],
        ["evaluate", "report_baseline", "--weights", weights, "--limit", "30"],
        ["predict", "report_baseline", str(tmp_path / "犬.png"), "--weights", weights],
        ["compare", f"report_baseline:{weights}", f"report_baseline:{weights}", "--limit", "30"],
        ["compare", str(trained), str(trained)],
        ["train", "report_baseline", *tiny, "--out", str(tmp_path / "犬")],
    ]
    code = (
        "import sys; from cifarzoo.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv[1:] = arguments\n"
        "    try: main()\n"
        "    except SystemExit as error: assert not error.code, (arguments, error.code)"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    difference = next(line for line in done.stdout.splitlines() if b"points" in line)
    if encoding == "cp1252":  # typer takes ASCII for a wrong setting, and writes UTF-8
        assert difference.split()[:3] == [b"a", b"-", b"b"]
