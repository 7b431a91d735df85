"""What a run leaves behind: the files in its folder, and its figures on the screen."""

from __future__ import annotations

import shlex

import torch
from torch import nn

from cifarzoo.cli.console import remark, say, show_table
from cifarzoo.cli.folder import RunFolder
from cifarzoo.cli.loading import class_names
from cifarzoo.cli.records import Record, evaluation_record, history_record
from cifarzoo.cli.words import interval_words, percent, size_words
from cifarzoo.data.loaders import Loaders
from cifarzoo.errors import NonFiniteLossError
from cifarzoo.evaluation.evaluate import Evaluation
from cifarzoo.report.words import duration
from cifarzoo.run import Run
from cifarzoo.training.history import History
from cifarzoo.viz import plot_history, plot_predictions
from cifarzoo.weights import save_weights
from cifarzoo.weights.notes import notes_on

__all__ = ["add_tta", "show_figures", "show_files", "write_best", "write_run"]

EXAMPLES = 12  # test images that are drawn beside what the model takes them for
ENDINGS = {
    "epochs": "all epochs done",
    "early": "stopped early",
    "diverged": "stopped, for the loss was not finite",
}
DOTS_PER_INCH = 150


def write_run(folder: RunFolder, run: Run, loaders: Loaders, environment: Record) -> Record:
    """Write weights, pictures and, when they are there, the record that says so.

    Raises:
        WeightsError: the weights cannot be written.
    """
    classes = class_names(folder.settings["data"])
    scores = {"train": run.train, "val": run.val, "test": run.test, "test_tta": run.test_tta}
    _save_weights(folder, run.model)
    _draw_curves(folder, run.history)
    _draw_examples(folder, run, loaders, classes)
    return folder.finish(
        {
            "environment": environment,
            "params": sum(parameter.numel() for parameter in run.model.parameters()),
            "scores": {
                split: None if score is None else evaluation_record(score, classes)
                for split, score in scores.items()
            },
            "history": history_record(run.history),
        }
    )


def add_tta(
    folder: RunFolder, record: Record, evaluation: Evaluation, environment: Record
) -> Record:
    """Write what a finished run reaches with test-time augmentation, and give its record.

    Args:
        folder: of the run.
        record: as the folder has it.
        evaluation: of the test set; it takes the place of an earlier one.
        environment: where it was scored, which may not be where the run was trained.
    """
    score = evaluation_record(evaluation, class_names(folder.settings["data"]))
    scores = {**record["scores"], "test_tta": {**score, "environment": environment}}
    amended = {**record, "scores": scores}
    folder.amend(amended)
    return amended


def write_best(folder: RunFolder, error: NonFiniteLossError, environment: Record) -> None:
    """Write what is left of a run whose loss was not finite: its best state, its history."""
    if error.model is not None and error.history.best_step:  # the state of step 0 is random
        _save_weights(folder, error.model)
        remark(f"The best state so far is in {folder.weights}.")
    _draw_curves(folder, error.history)
    folder.stop({"environment": environment, "history": history_record(error.history)})


def _save_weights(folder: RunFolder, model: nn.Module) -> None:
    notes = notes_on(model=folder.settings["model"], data=folder.settings["data"])
    save_weights(model, folder.weights, metadata=notes)


def _draw_curves(folder: RunFolder, history: History) -> None:
    if history.checks:
        plot_history(history).savefig(folder.curves, dpi=DOTS_PER_INCH)


def _draw_examples(folder: RunFolder, run: Run, loaders: Loaders, classes: tuple[str, ...]) -> None:
    if loaders.test is None:
        return
    images, labels = next(iter(loaders.test))
    images, labels = images[:EXAMPLES], labels[:EXAMPLES]
    device = next(run.model.parameters()).device
    with torch.no_grad():
        probabilities = run.model(images.to(device)).float().softmax(1).cpu()
    figure = plot_predictions(
        images.cpu(), labels.cpu(), probabilities, classes, title="the first test images"
    )
    figure.savefig(folder.examples, dpi=DOTS_PER_INCH)


def show_figures(record: Record) -> None:
    """Print how a run went and what it reached."""
    history, settings = record["history"], record["settings"]
    say(
        f"{settings['model']} on {settings['data']}, seed {settings['seed']}: "
        f"{ENDINGS[history['stopped']]} after {history['steps']:,} steps, "
        f"{duration(history['seconds'])}. Kept is the state of step {history['best_step']:,}."
    )
    say()
    names = {"train": "training", "val": "validation", "test": "test"}
    views = record["scores"].get("test_tta")  # records of older versions know of none
    if views is not None:
        names["test_tta"] = f"test, {views['tta']}"
    rows = [
        (
            names[split],
            percent(score["accuracy"]),
            interval_words(*score["interval"]),
            f"{score['loss']:.4f}",
            f"{score['n']:,}",
        )
        for split, score in record["scores"].items()
        if score is not None
    ]
    header = ("images", "accuracy", "95 % interval", "loss", "number")
    show_table(header, rows, numbers=header[1:])


def show_files(folder: RunFolder) -> None:
    """Say what was written, and what can be done with it."""
    what = {
        folder.weights: "weights",
        folder.record: "settings, history, figures",
        folder.curves: "loss and accuracy over the run",
        folder.examples: "test images, and what the model takes them for",
    }
    remark(f"\nWritten to {folder.path}:")
    for file, description in what.items():
        if file.is_file():
            size = size_words(file.stat().st_size)
            remark(f"  {file.name:20} {size:>8}  {description}")
    command = ["cifarzoo", "evaluate", folder.settings["model"], "--weights", str(folder.weights)]
    remark(f"Next: {shlex.join(command)}")
