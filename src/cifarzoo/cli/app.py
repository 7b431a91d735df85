"""The application: its commands, and how errors end them."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer import BadParameter, Option
from typer.core import TyperGroup
from typing_extensions import override

from cifarzoo import __version__
from cifarzoo.cli.compare import compare_command
from cifarzoo.cli.console import log, say
from cifarzoo.cli.data import data_command
from cifarzoo.cli.evaluate import evaluate_command
from cifarzoo.cli.export import export_command
from cifarzoo.cli.list_info import info_command, list_command
from cifarzoo.cli.predict import predict_command
from cifarzoo.cli.train import train_command
from cifarzoo.display import escape
from cifarzoo.errors import CifarZooError, InvalidTypeError, InvalidValueError

__all__ = ["app"]

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # a shell's exit code after Ctrl-C

_UsageError: Any = BadParameter.__base__  # which typer does not export


class _Commands(TyperGroup):
    """Commands whose errors become a message and an exit code."""

    @override
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _errors_become_messages(debug=False):
            return super().make_context(*args, **kwargs)

    @override
    def invoke(self, ctx: Any) -> Any:
        with _errors_become_messages(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _errors_become_messages(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        log("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except _UsageError as error:
        error.message = escape(error.message.removeprefix("Value error, "))  # pydantic's
        raise
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise  # typer exits quietly if a pipe was closed: cifarzoo list | head -1
    except Exception as error:
        is_expected = isinstance(error, CifarZooError | OSError)
        is_short = is_expected and not debug
        log(f"error: {error}" if is_short else traceback.format_exc().rstrip())
        is_usage = isinstance(error, InvalidValueError | InvalidTypeError)
        raise typer.Exit(WRONG_USAGE if is_usage else FAILED) from None


app = typer.Typer(
    name="cifarzoo",
    cls=_Commands,
    help="Train, evaluate and use small CIFAR models.",
    epilog="A first run without any download: cifarzoo train report_baseline --data shapes",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        say(f"cifarzoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, Option("--debug", envvar="CIFARZOO_DEBUG", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Declare the options that precede the command."""


app.command("list")(list_command)
app.command("info")(info_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("compare")(compare_command)
app.command("export")(export_command)
app.command("data")(data_command)
