"""`cifarzoo report`: the whole report, run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cifarzoo.cli.console import INTERRUPTED, is_terminal, remark, say
from cifarzoo.cli.options import Data, Device, Precision, Root, seed_list, seed_numbers, usable

__all__ = ["report_command"]


def _names(text: str) -> tuple[str, ...]:
    """Read "baseline,model1"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def report_command(
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", callback=usable, help="Where the results and the page go."),
    ] = Path("results"),
    data: Data = "cifar10",
    root: Root = None,
    seeds: Annotated[
        str,
        typer.Option(metavar="N,N,…", callback=seed_list, help="One run of each for every seed."),
    ] = ("0,1,2"),
    only: Annotated[
        str | None, typer.Option(metavar="KEY,KEY,…", help="Only these experiments.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One epoch over a few images, to see that it works.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(metavar="TAG|FILE", help="ResNet-18's; else torchvision's are fetched."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the page's path only.")] = (
        False
    ),
) -> None:
    """Run every task of the report over several seeds, and write one page about it.

    What is recorded already is not run again: the same command goes on after Ctrl-C or a crash,
    and more seeds add to what is there.
    """
    wanted_seeds, wanted = seed_numbers(seeds), None if only is None else _names(only)
    from cifarzoo.report import load_results, run_report

    try:
        page = run_report(
            out,
            data=data,
            root=root,
            seeds=wanted_seeds,
            experiments=wanted,
            mode="quick" if quick else "full",
            weights=weights,
            device=device,
            precision=precision,
            progress=not quiet and is_terminal(),
            on_message=(lambda message: None) if quiet else remark,
        )
    except KeyboardInterrupt:
        remark(f"\nstopped; the same command goes on from what is done in {out}.")
        raise typer.Exit(INTERRUPTED) from None
    say(str(page))
    failures = load_results(out).failures
    if failures:
        names = ", ".join(f"{failure.key} (seed {failure.seed})" for failure in failures)
        remark(f"could not be run: {names}; the page says why")
        raise typer.Exit(1)
