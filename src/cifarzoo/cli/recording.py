"""What `cifarzoo train --record` does: weights for the package, from several runs."""

from __future__ import annotations

from pathlib import Path

from cifarzoo.arithmetic import count_params
from cifarzoo.cli.console import is_terminal, remark, say
from cifarzoo.cli.job import CheckLines, Job
from cifarzoo.cli.words import interval_words, percent, recipe_words, size_words
from cifarzoo.errors import OptionError
from cifarzoo.registry import bare_card, outline
from cifarzoo.report.packing import pack_recording, recorded_runs
from cifarzoo.report.record import Record
from cifarzoo.report.recording import Recording, require_checkout, results_folder
from cifarzoo.report.words import duration
from cifarzoo.report.zoo import record_seed, recorded
from cifarzoo.spec import DEFAULT_TAG
from cifarzoo.weights import LIMIT_BYTES, packaged_file, packaged_folder

__all__ = ["record_runs", "recording_of"]


def recording_of(
    job: Job,
    seeds: tuple[int, ...],
    tag: str | None,
    out: Path | None,
    *,
    fresh: bool,
) -> Recording:
    """Turn what the command line says into a recording.

    Args:
        job: the other options.
        seeds: to train with.
        tag: of the weights; None is the default.
        out: the work folder; None is runs/record/NAME-TAG.
        fresh: is refused, as is every option that has no place in a recording.

    Raises:
        OptionError: an option has no place here, or the tag is that of another recipe.
    """
    unfit = {
        f"--data {job.data}": job.data != "cifar10",
        "--limit": job.limit is not None,
        "--weights": job.weights is not None,
        "--checkpoint": job.checkpoint is not None,
        "--tensorboard": job.tensorboard is not None,
        "--fresh": fresh,
    }
    given = [option for option, is_given in unfit.items() if is_given]
    if given:
        raise OptionError(f"--record does not go with {', '.join(given)}; leave that out")
    card, chosen = bare_card(job.card.name), tag or DEFAULT_TAG
    if chosen in card.recipe_tags and card.recipe_for(chosen) != job.card.recipe:
        raise OptionError(
            f"the tag {chosen!r} is for the card's own recipe, and --epochs, "
            "--batch-size and --lr change it; give the weights another name with --tag"
        )
    shows = not job.quiet
    return Recording(
        card=job.card,
        tag=chosen,
        seeds=seeds,
        work=out or Path("runs", "record", f"{job.card.name}-{chosen}"),
        results=results_folder(),
        root=job.root,
        download=job.download,
        device=job.device,
        precision=job.precision,
        tta=job.tta,
        progress=shows and is_terminal(),
        callbacks=(CheckLines(),) if shows and not is_terminal() else (),
        memory_limit_bytes=job.memory_limit_bytes,
    )


def record_runs(recording: Recording, *, quiet: bool) -> None:
    """Run every seed that is not recorded yet, and write the weights of the median of all.

    Args:
        recording: what to do.
        quiet: print the final figures and nothing else.

    Raises:
        ResultsError: the package is not in a clean checkout, or a record is of another run.
        KeyboardInterrupt: Ctrl-C; the same command goes on.
        And what `record_seed` and `pack` raise.
    """
    require_checkout(recording.card)
    recorded_runs(recording)  # what is in the way of the weights shows now, not after hours
    if not quiet:
        _remark_on_room(recording)
        remark(f"{recording.title}: {recipe_words(recording.card.recipe)}")
        remark(f"Unfinished runs and all weights are kept in {recording.work}; records go to")
        remark(f"{recording.results}, and the median run's weights to {packaged_folder()}.")
        remark("Ctrl-C stops; the same command goes on from there.\n")
    for seed in recording.seeds:
        if not quiet:
            _announce(recording, seed)
        record = record_seed(recording, seed)
        if not quiet:
            remark(f"seed {seed}: {_figures(record)}\n")
    weights = pack_recording(recording)
    say(f"{recording.title}: {weights.measured}, seed {weights.seed} is kept")
    say(f"95 % interval {interval_words(*weights.interval)}; six views {percent(weights.views)}")
    path = packaged_file(recording.card.name, weights.tag)
    say(f"{path} ({size_words(weights.size_bytes)})")
    if not quiet:
        records = recording.results / f"{recording.key}-seed*.json"
        remark(f"Commit it with its {path.with_suffix('.json').name} and with {records}")


def _remark_on_room(recording: Recording) -> None:
    """Say before hours of training that the file will not fit beside the others."""
    own = packaged_file(recording.card.name, recording.tag)
    others = sum(path.stat().st_size for path in own.parent.glob(f"*{own.suffix}") if path != own)
    size_bytes = 2 * count_params(outline(recording.card))  # half precision, without the header
    if others + size_bytes > LIMIT_BYTES:
        remark(
            f"The package may hold {size_words(LIMIT_BYTES)} of weights; with {own.name}, of about "
            f"{size_words(size_bytes)}, it would be {size_words(others + size_bytes)}. Afterwards "
            "take a file and its .json out, this one or another, and move its records to "
            "results/zoo/without_weights."
        )


def _announce(recording: Recording, seed: int) -> None:
    if recorded(recording, seed) is not None:
        remark(f"seed {seed} is recorded already")
    elif recording.checkpoint(seed).exists():
        remark(f"seed {seed} goes on from {recording.checkpoint(seed)}")
    else:
        remark(f"seed {seed} begins")


def _figures(record: Record) -> str:
    test = percent(None if record.test is None else record.test.accuracy)
    views = "" if record.test_tta is None else f", six views {percent(record.test_tta.accuracy)}"
    return f"test {test}{views}; trained in {duration(record.history.seconds)}"
