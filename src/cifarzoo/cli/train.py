"""`cifarzoo train`: a card's recipe, from data to weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarzoo.cli.options import (
    Data,
    Device,
    Limit,
    Name,
    NoDownload,
    Precision,
    Root,
    Tta,
)

if TYPE_CHECKING:
    from cifarzoo.spec import Recipe

__all__ = ["train_command"]


def train_command(
    name: Name,
    data: Data = "cifar10",
    root: Root = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Instead of the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Instead of the recipe's.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Instead of the recipe's.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Of initial weights, order, augmentation.")
    ] = 0,
    weights: Annotated[
        str | None, typer.Option(metavar="TAG|FILE", help="Where to start from.")
    ] = None,
    limit: Limit = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; without it runs/NAME-DATA-seedN."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to keep the unfinished run; without it in the folder."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, and replace what the folder holds.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    tta: Tta = "none",
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write TensorBoard's event files.")
    ] = None,
    memory_limit: Annotated[
        float,
        typer.Option(
            metavar="GIB", min=0, help="Of a transfer model's features, which are kept, in GiB."
        ),
    ] = 4.0,
    no_download: NoDownload = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the final figures and nothing else.")
    ] = False,
) -> None:
    """Train a model by its recipe; a stopped run goes on where it was.

    Ctrl-C stops between two steps. The same command goes on from there, to the same result as if
    it had not been stopped. After a crash it goes on from the last check.

    Test-time augmentation changes nothing that is trained: a finished run that is asked for another
    one is not trained again, only scored.
    """
    from cifarzoo.cli.job import Job, carry_out
    from cifarzoo.registry import model_card

    card = model_card(name)
    job = Job(
        card=dataclasses.replace(card, recipe=_changed(card.recipe, epochs, batch_size, lr)),
        data=data,
        root=root,
        limit=limit,
        download=not no_download,
        seed=seed,
        weights=weights,
        out=out or Path("runs", f"{card.name}-{data}-seed{seed}"),
        checkpoint=checkpoint,
        device=device,
        precision=precision,
        tta=tta,
        tensorboard=tensorboard,
        memory_limit_bytes=round(memory_limit * 2**30),
        quiet=quiet,
    )
    carry_out(job, fresh=fresh)


def _changed(
    recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None
) -> Recipe:
    return dataclasses.replace(
        recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        lr=recipe.lr if lr is None else lr,
    )
