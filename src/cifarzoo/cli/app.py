"""The application: its commands, and how errors end them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup
from typing_extensions import override

from cifarzoo import __version__
from cifarzoo.cli.console import log, say
from cifarzoo.cli.evaluate import evaluate_command
from cifarzoo.cli.list_info import info_command, list_command
from cifarzoo.cli.predict import predict_command
from cifarzoo.cli.train import train_command
from cifarzoo.errors import CifarZooError

__all__ = ["app"]

INTERRUPTED = 130  # a shell's exit code after Ctrl-C


class _Commands(TyperGroup):
    """Commands whose errors become a message and an exit code."""

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            log("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (CifarZooError, OSError) as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError):
                raise  # typer exits quietly if a pipe was closed: cifarzoo list | head -1
            log(f"error: {error}")
            raise typer.Exit(1) from None


app = typer.Typer(
    name="cifarzoo",
    cls=_Commands,
    help="Train, evaluate and use small CIFAR-10 models.",
    epilog="A first run without any download: cifarzoo train report_baseline --data shapes",
    no_args_is_help=True,
    add_completion=False,
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
