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
    at_least,
    seed_list,
    seed_numbers,
    usable,
)
from cifarzoo.errors import OptionError
from cifarzoo.spec import TtaName

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
        int | None,
        typer.Option(
            metavar="N",
            callback=at_least(0),
            help="Seed of initial weights, order, augmentation; else 0.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", callback=seed_list, help="Train with each of these seeds in turn."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="TAG|FILE", help="Where to start from.")
    ] = None,
    limit: Limit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=usable,
            help="Where to write; without it runs/NAME-DATA-seedN.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=usable,
            help="Where to keep the unfinished run; without it in the folder.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, and replace what the folder holds.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    tta: Annotated[
        TtaName | None,
        typer.Option(
            help="Score the test set a second time, with test-time augmentation; without it none, "
            "and with --record flip_translate."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", callback=usable, help="Also write TensorBoard's event files."
        ),
    ] = None,
    memory_limit: Annotated[
        float,
        typer.Option(
            metavar="GIB",
            callback=at_least(0),
            help="Memory for a transfer model's features, which are kept, in GiB.",
        ),
    ] = 4.0,
    no_download: NoDownload = False,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Stop after N minutes; exit code 75 if not finished."),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Make the weights that come with the package; see above."),
    ] = False,
    tag: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of recipe and recorded weights; else default."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the final figures and nothing else.")
    ] = False,
) -> None:
    """Train a model by its recipe; a stopped run goes on where it was.

    Ctrl-C stops between two steps. The same command goes on from there, to the same result as if
    it had not been stopped. After a crash it goes on from the last check. With --minutes it stops
    by itself, as it does at Ctrl-C.

    Several processes train one model together: torchrun --standalone --nproc-per-node=2 -m cifarzoo
    train NAME. The batch size is that of all of them.

    Test-time augmentation changes nothing that is trained: a finished run that is asked for another
    one is not trained again, only scored.

    With --record, in a clean git checkout, every seed's run is recorded in results/zoo, and the
    weights of the median one are put into the package. Another recipe needs a --tag of its own;
    a tag of one of the card's recipes stands for that recipe.
    """
    from cifarzoo.cli.deadline import stopping_after
    from cifarzoo.cli.job import Job, carry_out
    from cifarzoo.processes import is_launched, joined
    from cifarzoo.registry import bare_card, model_card
    from cifarzoo.spec import DEFAULT_TAG

    wanted = _seeds(seed, seeds)
    card = bare_card(name) if weights is None else model_card(name)
    known = tag is None or tag in card.recipe_tags
    changed = any(value is not None for value in (epochs, batch_size, lr))
    if not known and not (record and changed):
        raise OptionError(
            f"--tag is {tag!r}, and {name} has no recipe of that name; allowed: "
            f"{', '.join(card.recipe_tags)}. A name of your own goes with --record and a recipe of "
            "your own: --epochs, --batch-size, --lr"
        )
    own = card.recipe if tag is None or not known else card.recipe_for(tag)
    recipe = _changed(own, epochs, batch_size, lr)
    card = dataclasses.replace(card, recipe=recipe)
    job = Job(
        card=card,
        data=data,
        root=root,
        limit=limit,
        download=not no_download,
        seed=wanted[0],
        weights=weights,
        out=out or Path("runs"),
        checkpoint=checkpoint,
        device=device,
        precision=precision,
        tta=tta or ("flip_translate" if record else "none"),
        tensorboard=tensorboard,
        memory_limit_bytes=round(memory_limit * 2**30),
        quiet=quiet,
    )
    if record:
        from cifarzoo.cli.recording import record_runs, recording_of

        if is_launched():
            raise OptionError("--record is one process's work; leave out torchrun, or --record")
        recording = recording_of(job, wanted, tag, out, fresh=fresh)
        with stopping_after(minutes):
            record_runs(recording, quiet=quiet)
        return
    if checkpoint is not None and len(wanted) > 1:
        raise OptionError("--checkpoint is one run's; leave it out, or train with one seed")
    with joined(device) as team, stopping_after(minutes, quiet=not team.leads):
        for each in wanted:
            run_name = card.name if tag in (None, DEFAULT_TAG) else f"{card.name}_{tag}"
            folder = out or Path("runs", f"{run_name}-{data}-seed{each}")
            if out is not None and seeds is not None:  # more may be added to a single one
                folder = out / f"seed{each}"
            events = tensorboard
            if events is not None and seeds is not None:
                events = events / f"seed{each}"
            run = dataclasses.replace(job, seed=each, out=folder, tensorboard=events)
            carry_out(run, team, fresh=fresh)


def _seeds(seed: int | None, seeds: str | None) -> tuple[int, ...]:
    """Read one seed, or several with commas between them."""
    if seeds is None:
        return (seed or 0,)
    if seed is not None:
        raise OptionError("--seed and --seeds say the same; give one of them")
    return seed_numbers(seeds)


def _changed(
    recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None
) -> Recipe:
    return dataclasses.replace(
        recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        lr=recipe.lr if lr is None else lr,
    )
