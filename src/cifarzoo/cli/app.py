"""The command line's commands, and what it does with errors."""

from __future__ import annotations

import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cifarzoo.cli.console import INTERRUPTED, remark, say
from cifarzoo.cli.evaluate import evaluate_command
from cifarzoo.cli.models import info_command, list_command
from cifarzoo.cli.predict import predict_command
from cifarzoo.cli.report import report_command
from cifarzoo.cli.train import train_command
from cifarzoo.errors import TOLD_BY_THE_FIRST, CifarZooError

__all__ = ["app"]


class _Commands(TyperGroup):
    """The commands; an error that is not a mistake of ours becomes one message."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own context has no public name
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            remark("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (CifarZooError, OSError) as error:
            if TOLD_BY_THE_FIRST in getattr(error, "__notes__", ()):
                raise typer.Exit(1) from None
            if ctx.params.get("debug") or getattr(error, "errno", None) == errno.EPIPE:
                raise  # a closed pipe is not an error: `cifarzoo list | head -1`
            remark(f"error: {_told(error)}", style="red")
            raise typer.Exit(1) from None


def _told(error: CifarZooError | OSError) -> str:
    """Say what went wrong, and, where it is the disk's word alone, the way out."""
    if isinstance(error, CifarZooError) or error.filename is None:
        return str(error)
    ways = {errno.ENOSPC: "free space, or ", errno.EDQUOT: "free space, or "}
    ways |= {errno.EACCES: "mend its permissions, or ", errno.EPERM: "mend its permissions, or "}
    way_out = f"{ways.get(error.errno or 0, '')}give another path"
    return f"cannot use {error.filename} ({error.strerror}); {way_out}"


app = typer.Typer(
    name="cifarzoo",
    cls=_Commands,
    help="Small CIFAR-10 models: look at them, train them, score them.",
    epilog="Start without any data: cifarzoo train report_baseline --data shapes",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from cifarzoo import __version__

        say(f"cifarzoo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="CIFARZOO_DEBUG", help="Show where an error comes from."),
    ] = False,
) -> None:
    """Options that stand before the command."""


app.command("list")(list_command)
app.command("info")(info_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("report")(report_command)
