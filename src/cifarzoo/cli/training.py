"""The folder of a training run, and what is printed about the run."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from torch import nn

from cifarzoo.arithmetic import count_params
from cifarzoo.cli.console import log, say, show_table, summarize
from cifarzoo.data.loader import TensorLoader
from cifarzoo.errors import CheckpointError, InvalidValueError, NonFiniteLossError, RunError
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.evaluation.predict import predict
from cifarzoo.evaluation.statistics import mean_and_std
from cifarzoo.files import write_text
from cifarzoo.recipe import TtaName
from cifarzoo.run import RUN_FILE, WEIGHTS_FILE, Run, differences
from cifarzoo.training.distributed import is_rank_zero, on_rank_zero, world_size
from cifarzoo.validation import expand_path
from cifarzoo.weights import save_weights

__all__ = [
    "CHECKPOINT_FILE",
    "add_tta",
    "announce",
    "clear",
    "explain",
    "finished_run",
    "save",
    "show",
    "show_spread",
    "sole_use",
]

CHECKPOINT_FILE = "checkpoint.pt"  # of an unfinished run
BEST_FILE = "best.safetensors"  # of a diverged run
CURVES_FILE = "curves.png"
PREDICTIONS_FILE = "predictions.png"
LOCK_FILE = ".cifarzoo.lock"
FILES = (CHECKPOINT_FILE, WEIGHTS_FILE, RUN_FILE, CURVES_FILE, PREDICTIONS_FILE, BEST_FILE)

N_EXAMPLES = 12  # test images in predictions.png
DPI = 150
HINT = "choose another folder with --out, or replace the files with --fresh"


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Lock a folder within the block; a folder that stays empty is deleted.

    The system releases the lock of a killed process.

    Raises:
        RunError: another command writes to the folder.
    """
    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]

    def acquire() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise RunError(
                f"another command is training in {folder}: wait until it has finished, or choose "
                "another folder with --out"
            ) from None

    on_rank_zero(acquire)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # on Windows, the file is open
                (folder / LOCK_FILE).unlink()
            lock.release()
            with contextlib.suppress(OSError):  # not empty
                for path in missing:
                    path.rmdir()


def finished_run(folder: Path, settings: Mapping[str, Any]) -> Run | None:
    """Return the finished run in a folder; None if it is unfinished or there is none.

    Raises:
        RunError: the run has other `run_settings`, or files would be overwritten.
    """
    if (folder / RUN_FILE).exists():
        run = Run.load(folder)
        if changed := differences(run, settings):
            raise RunError(f"{folder} holds another run ({'; '.join(changed.values())}): {HINT}")
        return run
    found = [name for name in FILES if (folder / name).exists()]
    if found and CHECKPOINT_FILE not in found:  # `train` checks which run a checkpoint belongs to
        raise RunError(f"{folder} holds {', '.join(found)}, but no {RUN_FILE}: {HINT}")
    return None


def clear(folder: Path, weights: str | None) -> None:
    """Delete the files of a run; raise if one of them holds the weights to start from."""
    paths = [folder / name for name in FILES]
    if weights and expand_path("weights", weights).resolve() in [path.resolve() for path in paths]:
        raise InvalidValueError(
            f"--fresh would delete {weights}, the weights to start from: choose another folder "
            "with --out"
        )
    for path in paths:
        path.unlink(missing_ok=True)


def announce(settings: Mapping[str, Any], model: nn.Module, machine: str, folder: Path) -> None:
    """Print what is trained, where, and how to stop."""
    if is_rank_zero():
        processes = f", {world_size()} processes" if world_size() > 1 else ""
        size = f"{count_params(model):,} parameters"
        log(f"{settings['name']} ({size}) on {settings['data']}, seed {settings['seed']}")
        log(f"{summarize(settings['recipe'])}; {machine}{processes}")
        if (folder / CHECKPOINT_FILE).exists():
            log(f"found {folder / CHECKPOINT_FILE}")
        log("Ctrl-C stops the run; the same command resumes it\n")


def explain(error: CheckpointError | NonFiniteLossError, folder: Path) -> None:
    """Save the best state of a diverged run, and print what to do."""
    # At step 0 the weights are random.
    if isinstance(error, NonFiniteLossError) and error.model and error.history.best_step:
        save_weights(error.model, folder / BEST_FILE)
        log(f"the best state is in {folder / BEST_FILE}")
    log(f"to train with other settings, {HINT}")


def save(run: Run, test: TensorLoader, folder: Path) -> Run:
    """Write weights, then the record, which marks the run as finished, then pictures."""
    saved = run.save(folder)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    try:
        _draw(run, test, folder)
    except Exception as error:  # by matplotlib, such as for an unknown MPLBACKEND
        log(f"warning: the pictures of the run could not be drawn: {error}")
    return saved


def _draw(run: Run, test: TensorLoader, folder: Path) -> None:
    from cifarzoo.viz import plot_history, plot_predictions

    plot_history(run.history).savefig(folder / CURVES_FILE, dpi=DPI)
    images, labels = test.images[:N_EXAMPLES], test.labels[:N_EXAMPLES]
    device = next(run.model.parameters()).device
    found = predict(run.model, images, device=device).probabilities
    figure = plot_predictions(images, labels, found, test.classes, title="first test images")
    figure.savefig(folder / PREDICTIONS_FILE, dpi=DPI)


def add_tta(run: Run, test: TensorLoader, tta: TtaName, device: str, folder: Path) -> Run:
    """Score a finished run with test-time augmentation, and write its record again."""
    run = run.replace(test_tta=evaluate(run.model, test, device=device, tta=tta))
    write_text(folder / RUN_FILE, run.to_json())
    return run


def show_spread(accuracies: Sequence[float]) -> None:
    """Print the mean test accuracy of several runs, with its standard deviation."""
    if len(accuracies) > 1:
        found = mean_and_std(accuracies)
        say(f"\n{len(accuracies)} seeds: test accuracy {found.mean:.2%} ± {found.std:.2%}")


def show(run: Run, folder: Path, *, cards: Sequence[str], quiet: bool) -> None:
    """Print the length of the run, its scores and its files."""
    history = run.history
    say(
        f"{run.name} on {run.data}, seed {run.seed}: {history.steps:,} steps in "
        f"{history.seconds:,.1f} s, kept step {history.best_step:,}"
    )
    say()
    table = run.table()
    show_table(table.header, table.rows, numbers=table.numbers)
    if not quiet:
        files = ", ".join(name for name in FILES if (folder / name).exists())
        log(f"\nfinished on {run.provenance.date}; --fresh trains again")
        log(f"in {folder}: {files}")
        command = ["cifarzoo", "evaluate", run.name, "--weights", str(folder / WEIGHTS_FILE)]
        command += [f"--card={card}" for card in cards]
        # cmd does not know single quotes; double quotes work in PowerShell, too.
        join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
        log(f"next: {join(command)}")
