"""Runs that are killed at random moments, again and again, until one gets through.

killed.py FOLDER RECIPE KILLS

A process that has only imported forks one child after another; each goes on with the same run. It
is killed some time after it said that it began a step, a validation or a checkpoint's write.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torchvision.transforms.v2  # noqa: F401

import cifarzoo as zoo
from cifarzoo.hardware import seeded
from cifarzoo.models.report import report_model
from cifarzoo.models.sprint import SprintLayout, sprint_model
from cifarzoo.training import checkpoint, fit
from cifarzoo.training.state import RunState

PHASES = {"step": b"s", "validation": b"v", "write": b"w"}
RESUMED = b"r"
AVERAGED = zoo.Averaging(decay=0.9)
AUGMENTED = zoo.Augmentation(flip="alternating", translate=2, cutout=8, rand_augment=1)
RECIPES = {
    "sgd": zoo.Recipe(
        epochs=10,
        lr=0.05,
        momentum=0.9,
        schedule="cosine",
        warmup_epochs=1,
        checks_per_epoch=3,
        averaging=AVERAGED,
        mixing=zoo.Mixing(kind="either", share=0.5),
    ),
    "adam": zoo.Recipe(epochs=10, optimizer="adam", schedule="one_cycle", checks_per_epoch=3),
    "sprint": replace(
        zoo.model_card("sprint_s").recipe, epochs=10, batch_size=8, checks_per_epoch=3, keep="best"
    ),
}


def build(recipe: str) -> zoo.ImageClassifier:
    """Build a small network that the recipe fits."""
    with seeded(0):
        if recipe == "sprint":
            return sprint_model(SprintLayout(filters=(4, 8), activation="hardswish"))
        return report_model(zoo.Layout(filters=(4, 8), kernel_size=3, hidden=(8,), dropout=0.3))


def train(recipe: str, path: Path | None) -> dict[str, Any]:
    """Train, and give what has to be the same in the end."""
    model = build(recipe)
    loaders = zoo.shapes_loaders(8, n_train=80, n_test=8, augmentation=AUGMENTED)
    history = zoo.fit(
        model,
        loaders,
        RECIPES[recipe],
        device="cpu",
        precision="float32",
        progress=False,
        checkpoint=path,
    )
    return {
        "state": model.state_dict(),
        "best_step": history.best_step,
        "checks": [
            (each.step, each.train_loss, each.train_accuracy, each.val_loss, each.lr)
            for each in history.checks
        ],
    }


def telling(pipe: int) -> None:
    """Let this process say what it begins."""

    def said(word: bytes, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the function's own
            os.write(pipe, word)
            return function(*arguments, **options)

        return call

    RunState.restore = said(RESUMED, RunState.restore)  # type: ignore[method-assign]
    RunState.take_step = said(PHASES["step"], RunState.take_step)  # type: ignore[method-assign]
    RunState.check = said(PHASES["validation"], RunState.check)  # type: ignore[method-assign]
    vars(fit)["save_checkpoint"] = said(PHASES["write"], checkpoint.save_checkpoint)


def torn(path: Path) -> bool:
    """Whether there is a checkpoint that was begun and not finished."""
    return any(path.parent.glob(f".{path.name}.*.partial"))


def attempt(
    recipe: str, path: Path, result: Path, kill: tuple[str, int, float] | None
) -> tuple[bool, bool, bool]:
    """Let a child go on with the run; kill it some seconds after it began a phase the nth time.

    Returns:
        Whether it was killed, and did not get through before; whether it went on from what was
        done before; and whether it left half a checkpoint.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        telling(write)
        torch.save(train(recipe, path), result)
        os._exit(0)
    os.close(write)
    words = b""
    if kill is not None:
        phase, n, seconds = kill
        while words.count(PHASES[phase]) < n and (said := os.read(read, 1)):
            words += said
        if phase == "write":  # torch takes a while to open the file
            ended = time.monotonic() + 0.2
            while not torn(path) and time.monotonic() < ended:
                time.sleep(0.0005)
            seconds /= 10
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while said := os.read(read, 1000):
        words += said
    os.close(read)
    return os.WIFSIGNALED(status), RESUMED in words, torn(path)


def main() -> None:
    """Kill a run as often as it is said, let it end, and compare it with one that was not."""
    folder, recipe, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    path, result, whole = (folder / name for name in ("run.pt", "result.pt", "whole.pt"))
    assert attempt(recipe, folder / "unbroken.pt", whole, None) == (False, False, False)
    chance, attempts = random.Random(recipe), []
    for i in range(kills):
        phase = [*PHASES][i % len(PHASES)]
        n = chance.randint(1, 6) if phase == "step" else chance.randint(1, 2)
        attempts.append(attempt(recipe, path, result, (phase, n, chance.uniform(0, 0.01))))
    attempts.append(attempt(recipe, path, result, None))
    killed, resumed, broken = (sum(column) for column in zip(*attempts, strict=True))
    sys.stdout.write(f"killed {killed}, resumed {resumed}, torn {broken}\n")


if __name__ == "__main__":
    main()
