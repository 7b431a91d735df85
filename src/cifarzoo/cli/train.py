"""`cifarzoo train`: train a model by one of its card's recipes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from cifarzoo.cli import options
from cifarzoo.cli.completion import complete_recipe, complete_weights
from cifarzoo.errors import CheckpointError, NonFiniteLossError
from cifarzoo.recipe import Recipe, scale_epochs
from cifarzoo.validation import Seed, validate

__all__ = ["train_command"]


def train_command(
    name: options.Name,
    data: options.Data = "cifar10",
    root: options.Root = None,
    recipe: Annotated[
        str | None,
        Option(metavar="TAG", help="Recipe; see cifarzoo info.", autocompletion=complete_recipe),
    ] = None,
    epochs: Annotated[
        int | None, Option(metavar="N", min=1, help="Scale the recipe to N epochs.")
    ] = None,
    batch_size: Annotated[
        int | None, Option(metavar="N", min=1, help="Override the batch size.")
    ] = None,
    lr: Annotated[
        float | None, Option(metavar="RATE", min=0, help="Override the learning rate.")
    ] = None,
    seed: Annotated[
        int, Option(metavar="N", min=0, help="Seed for weights, order and augmentation.")
    ] = 0,
    seeds: Annotated[
        str | None, Option(metavar="N,N,...", help="Train one run after another with these seeds.")
    ] = None,
    weights: Annotated[
        str | None,
        Option(metavar="TAG|FILE", help="Weights to start from.", autocompletion=complete_weights),
    ] = None,
    limit: options.Limit = None,
    out: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="Output folder; default: runs/NAME-DATA-seedN. --seeds adds a subfolder per seed.",
        ),
    ] = None,
    fresh: Annotated[bool, Option("--fresh", help="Replace the run in the output folder.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tta: options.Tta = "none",
    tensorboard: Annotated[
        Path | None, Option(metavar="FOLDER", help="Write TensorBoard event files.")
    ] = None,
    no_download: options.NoDownload = False,
    cards: options.Cards = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Print only the final scores.")] = False,
) -> None:
    """Train a model by its recipe, or resume an interrupted run.

    The output folder contains checkpoint.pt until the run is finished, then weights.safetensors,
    run.json, curves.png and predictions.png. After Ctrl-C, SIGTERM or a crash, the same command
    resumes the run, with the same result as an uninterrupted run.

    To train with several processes: torchrun --nproc-per-node=2 -m cifarzoo train NAME. The batch
    size is the total over all processes.
    """
    from cifarzoo.cli import training
    from cifarzoo.data import CLASS_NAMES
    from cifarzoo.registry import build_from_card, build_model, model_card
    from cifarzoo.run import load_data, provenance, run_settings, train
    from cifarzoo.training.callbacks import Callback, TensorBoardCallback
    from cifarzoo.training.distributed import is_rank_zero, on_rank_zero, process_group
    from cifarzoo.validation import expand_path

    card, download = model_card(name), not no_download
    start = card.initial_weights if weights is None else weights
    chosen = card.recipe if recipe is None else card.recipe_for(recipe)
    chosen = chosen if epochs is None else scale_epochs(chosen, epochs)
    chosen = chosen if batch_size is None else replace(chosen, batch_size=batch_size)
    chosen = chosen if lr is None else replace(chosen, lr=lr)
    if limit is not None:
        _check_limit(limit, chosen)
    variant = name if recipe is None else f"{name}-{recipe}"
    several = _parse_seeds(seeds)
    if several and seed:
        raise BadParameter(f"--seed {seed} and --seeds {seeds}: expected one of them")
    with process_group(device):
        accuracies: list[float] = []
        for each in several or (seed,):
            subfolder = f"seed{each}" if several else ""
            folder = Path("runs", f"{variant}-{data}-seed{each}")
            folder = folder if out is None else expand_path("out", out) / subfolder
            settings = run_settings(card, chosen, start, data=data, seed=each, limit=limit)
            load = partial(
                load_data, data, chosen, root=root, seed=each, limit=limit, download=download
            )
            finished = partial(training.finished_run, folder, settings)
            run = None if fresh else on_rank_zero(finished)
            has_tta = tta == "none" or (run and run.test_tta and run.test_tta.tta == tta)
            with nullcontext() if run and has_tta else training.sole_use(folder):
                if run is None:
                    machine = provenance(device, precision).machine
                    # Whatever cannot be loaded fails here, before a file is written or deleted.
                    test = load().test
                    n = len(CLASS_NAMES[data])
                    model = build_from_card(card, start, n, download=download)
                    if teacher := chosen.distillation:
                        build_model(teacher.teacher, weights=teacher.weights, num_classes=n)
                    callbacks: list[Callback] = []
                    if tensorboard is not None and is_rank_zero():
                        callbacks.append(TensorBoardCallback(tensorboard / subfolder))
                    if fresh:
                        on_rank_zero(partial(training.clear, folder, start))
                    if not quiet:
                        training.announce(settings, model, machine, folder)
                    try:
                        run = train(
                            card,
                            data=data,
                            root=root,
                            recipe=chosen,
                            weights=start,
                            seed=each,
                            limit=limit,
                            device=device,
                            precision=precision,
                            tta=tta,
                            checkpoint=folder / training.CHECKPOINT_FILE,
                            progress=not quiet,
                            callbacks=callbacks,
                            download=download,
                        )
                    except (CheckpointError, NonFiniteLossError) as error:
                        if is_rank_zero():
                            training.explain(error, folder)
                        raise
                    if is_rank_zero():
                        run = training.save(run, test, folder)
                elif not has_tta and is_rank_zero():
                    run = training.add_tta(run, load().test, tta, device, folder)
            if is_rank_zero():
                training.show(run, folder, cards=cards or (), quiet=quiet)
            if run.test is not None:
                accuracies.append(run.test.accuracy)
        if is_rank_zero():
            training.show_spread(accuracies)


def _check_limit(limit: int, recipe: Recipe) -> None:
    n = limit - round(limit * recipe.val_fraction)
    if n < recipe.batch_size:
        raise BadParameter(
            f"--limit {limit} leaves {n} training images, fewer than the batch size of "
            f"{recipe.batch_size}: use a larger --limit, or --batch-size {n} or less"
        )


def _parse_seeds(text: str | None) -> tuple[int, ...]:
    """Parse "0,1,2"."""
    parts = [] if text is None else text.split(",")
    try:
        return tuple(dict.fromkeys(validate("seed", int(part), Seed) for part in parts))
    except ValueError:
        message = f"{text!r}: expected numbers from 0 with commas, such as 0,1,2"
        raise BadParameter(message) from None
