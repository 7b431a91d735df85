"""`cifarzoo train --record` that is killed with `kill -9`, in all its parts, until it gets through.

killed_recording.py FOLDER

A process that has only imported forks one child after another, and each gives the same command.
The first ones kill themselves: in a training, in a scoring, before the record, in a check of the
second seed, and between the two files of the weights. Says how many were killed and how many ended
well, and how many training steps and batches of scoring it took, without kills and with them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo
import torchvision.transforms.v2  # noqa: F401

import cifarzoo as zoo
from cifarzoo.cli.app import app
from cifarzoo.models.report import report_model
from cifarzoo.report import packing, scoring
from cifarzoo.report import zoo as recorder
from cifarzoo.report.provenance import Source
from cifarzoo.training.state import RunState

NAME = "report_baseline"
COMMAND = ("train", NAME, "--seeds", "0,1", "--record", "--device", "cpu", "--precision", "float32")
KILLS = (
    (RunState, "take_step", 7),
    (scoring, "scored", 3),
    (recorder, "write_record", 1),
    (RunState, "check", 3),
    (packing, "write_description", 1),
)


def build(num_classes: int) -> zoo.ImageClassifier:
    """Build a small network."""
    return report_model(zoo.Layout(filters=(4, 8), kernel_size=3, hidden=(8,)), num_classes)


def load(_: str, recipe: zoo.Recipe, *, seed: int, **_options: object) -> zoo.Loaders:
    """Give made-up images."""
    return zoo.shapes_loaders(recipe.batch_size, n_train=80, n_test=40, seed=seed)


def checkout(folder: Path) -> dict[str, object]:
    """Give what stands in for a clean checkout of a zoo with one small model, in a folder."""
    recipe = zoo.Recipe(epochs=3, batch_size=8, checks_per_epoch=2)
    card = replace(zoo.model_card(NAME), builder=build, recipe=recipe, weights=())
    source = Source(commit="0" * 40, dirty=False, versions={})
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    return {
        "cifarzoo.registry._cards": lambda: {NAME: card},
        "cifarzoo.report.zoo.load_data": load,
        "cifarzoo.report.zoo.this_source": lambda: source,
        "cifarzoo.report.recording.this_source": lambda: source,
        "cifarzoo.weights.packaged._FOLDER": folder / "weights",
        "cifarzoo.cli.recording.results_folder": lambda: folder / "results",
        "cifarzoo.report.scoring.KEEP_SECONDS": 0,
    }


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let this process be killed when it calls a function the nth time."""
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the function's own
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return counted


def noted(path: Path, word: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let every call of a function be noted in a file."""

    def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the function's own
        with path.open("a") as file:
            file.write(word)
        return function(*arguments, **options)

    return call


def attempt(folder: Path, kill: tuple[Any, str, int] | None) -> int:
    """Let a child give the command; kill it at a function's nth call.

    Returns:
        Its exit code, or the signal that ended it, below 0.
    """
    child = os.fork()
    if child == 0:
        with ExitStack() as stack:
            for target, value in checkout(folder).items():
                stack.enter_context(mock.patch(target, value))
            for place, name, word in ((RunState, "take_step", "t"), (scoring, "scored", "s")):
                call = noted(folder / "noted", word, getattr(place, name))
                stack.enter_context(mock.patch.object(place, name, call))
            if kill is not None:
                place, name, nth = kill
                counted = killed_at(nth, getattr(place, name))
                stack.enter_context(mock.patch.object(place, name, counted))
            try:
                app([*COMMAND, "--out", str(folder / "work")], standalone_mode=False)
            except BaseException as error:  # a child never goes on as its parent
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Give the command once, and beside it again and again until it is not killed."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    codes = [attempt(folder / "whole", None)]
    codes += [attempt(folder / "killed", kill) for kill in (*KILLS, None)]
    said = [(folder / name / "noted").read_text() for name in ("whole", "killed")]
    steps, batches = ([each.count(word) for each in said] for word in "ts")
    sys.stdout.write(
        f"killed {codes.count(-signal.SIGKILL)}, done {codes.count(0)}, "
        f"steps {steps[0]} {steps[1]}, batches {batches[0]} {batches[1]}\n"
    )


if __name__ == "__main__":
    main()
