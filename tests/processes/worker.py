"""What each process of the tests does; `torchrun` starts it, and so does a test, alone.

worker.py FOLDER TASK...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo.hardware import seeded
from cifarzoo.models.report import report_model
from cifarzoo.processes import Team, joined
from cifarzoo.training import fit
from cifarzoo.training.progress import ProgressBar

RECIPES = {
    "sgd": zoo.Recipe(epochs=2, lr=0.05, momentum=0.9, label_smoothing=0.1, checks_per_epoch=2),
    "early": zoo.Recipe(epochs=20, lr=1.0, early_stopping=zoo.EarlyStopping(patience=2)),
    "adam": zoo.Recipe(epochs=2, optimizer="adamw", lr=1e-3, schedule="cosine", keep="last"),
    "muon": zoo.Recipe(
        epochs=2,
        optimizer="muon",
        lr=0.05,
        momentum=0.6,
        groups=(
            zoo.ParamGroup(params="*conv.bias", optimizer="sgd", lr=0.1, epochs=0.5),
            zoo.ParamGroup(params="*bias", optimizer="sgd", lr=0.1),
            zoo.ParamGroup(params="*norm*", optimizer="sgd", lr=0.1),
            zoo.ParamGroup(params="*conv*", norm="kept"),
        ),
        averaging=zoo.Averaging(decay=0.9),
        keep="last",
    ),
}


class Net(nn.Module):
    """A convolution, batch norms and a head, in double precision: rounding cannot hide a mistake.

    Args:
        dropout: share of the features that are dropped.
    """

    last_step: int | None = None  # at which the process is killed
    asked_at: int | None = None  # the step at which it is asked to end
    lost_at: int | None = None  # the step at which its answers are NaN

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.SiLU()
        self.norm2 = nn.BatchNorm1d(6, momentum=None)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(6, 10)
        self.steps = 0
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (N,10)."""
        self.steps += self.training
        if self.steps == self.last_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == self.asked_at:
            signal.raise_signal(signal.SIGTERM)
        if self.steps == self.lost_at:
            images = images * float("nan")
        maps = self.act(self.norm(self.conv(images.double())))
        logits: Tensor = self.head(self.drop(self.norm2(maps.mean((2, 3)))))
        return logits


def loaders() -> zoo.Loaders:
    """36 training images in batches of 10, of which six are dropped; 4 to validate, 30 to test."""
    augmentation = zoo.Augmentation(flip="random", translate=2)
    return zoo.shapes_loaders(10, n_train=40, n_test=30, augmentation=augmentation, seed=3)


def train(recipe: str, **options: object) -> tuple[Net, zoo.History]:
    """Train a network by one of the recipes."""
    build = options.pop("build", Net)
    assert callable(build)
    with seeded(0):
        model = build(*([options.pop("dropout")] if "dropout" in options else []))
    history = zoo.fit(
        model,
        loaders(),
        RECIPES[recipe],
        device="cpu",
        precision="float32",
        **{"progress": False, **options},  # type: ignore[arg-type]
    )
    return model, history


def save(team: Team, folder: Path, name: str, model: Net, history: zoo.History) -> None:
    """Keep what a process ended with."""
    checks = [
        (check.step, check.train_loss, check.train_accuracy, check.val_loss, check.val_accuracy)
        for check in history.checks
    ]
    found = {"state": model.state_dict(), "checks": checks, "images": history.images}
    found["taken"] = model.steps  # since this process began
    torch.save(found, folder / f"{name}-{team.rank}.pt")


def agree(team: Team, folder: Path) -> None:
    """Train by every recipe."""
    for name in RECIPES:
        save(team, folder, name, *train(name))


def show(team: Team, folder: Path) -> None:
    """Train with a progress bar, and write down whether this process shows it."""

    class Noted(ProgressBar):
        def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
            (folder / f"shown-{team.rank}").write_text(str(shown))
            super().__init__(total_steps=total_steps, first_step=first_step, shown=False)

    with mock.patch.object(fit, "ProgressBar", Noted):
        train("sgd", progress=True)


def see(team: Team, folder: Path) -> None:
    """Write down which images of two epochs this process is given."""
    share = team.share(loaders().train)
    assert isinstance(share, zoo.TensorLoader)
    seen = [torch.cat(list(share.indices(epoch))) for epoch in range(2)]
    torch.save(seen, folder / f"seen-{team.rank}.pt")


def score(team: Team, folder: Path) -> None:
    """Score a network over 10,000 test images, each process its share."""
    layout = zoo.Layout(filters=(4, 8), kernel_size=3, hidden=(8,))
    card = replace(
        zoo.model_card("report_baseline"), builder=lambda classes: report_model(layout, classes)
    )
    data = zoo.shapes_loaders(32, n_train=40, val_fraction=0.08, n_test=10, seed=3)
    images = torch.arange(10_000).mul(37).remainder(256).to(torch.uint8)
    test = zoo.TensorLoader(
        images.view(-1, 1, 1, 1).expand(-1, 3, 32, 32), torch.arange(10_000) % 10, batch_size=512
    )
    with seeded(0):
        run = zoo.train(
            card,
            data=zoo.Loaders(data.train, data.val, test),
            recipe=zoo.Recipe(epochs=1, lr=1e-9),
            tta="flip",
            progress=False,
        )
    found = {
        name: (each.n, each.accuracy, each.loss, each.confusion.tolist())
        for name in ("train", "val", "test", "test_tta")
        for each in [getattr(run, name)]
    }
    torch.save(found, folder / f"score-{team.rank}.pt")


class Calls(zoo.Callback):
    """Notes that it was called.

    Args:
        folder: where the notes go.
        rank: of the process.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank

    def on_check(self, check: zoo.Check) -> None:
        """Note it."""
        del check
        (self.folder / f"called-{self.rank}").touch()


def stop(team: Team, folder: Path) -> None:
    """Train with dropout: the last process is asked to end, all stop, and all go on to one end."""
    model, history = train("sgd", dropout=0.5)
    save(team, folder, "whole", model, history)
    options = {"dropout": 0.5, "checkpoint": folder / "stopped.pt"}
    Net.asked_at = 2 if team.rank == team.size - 1 else None
    try:
        train("sgd", callbacks=[Calls(folder, team.rank)], **options)
    except KeyboardInterrupt:
        (folder / f"stopped-{team.rank}").touch()
    Net.asked_at = None
    save(team, folder, "resumed", *train("sgd", **options))


def die(team: Team, folder: Path, *, which: int = -1) -> None:
    """Train; one process, by default the last, is killed at its fifth step, unless it was."""
    mark = folder / "killed"
    if not mark.exists() and team.rank == which % team.size:
        mark.touch()
        Net.last_step = 5
    save(team, folder, "survived", *train("sgd", checkpoint=folder / "dying.pt"))


def die_first(team: Team, folder: Path) -> None:
    """Let the process be killed that writes."""
    die(team, folder, which=0)


class OwnNorm(nn.BatchNorm2d):
    """A batch norm that does more than torch's."""

    def forward(self, maps: Tensor) -> Tensor:
        """Give the normalised maps, none of them below zero."""
        return super().forward(maps).relu()


def with_own_norm() -> Net:
    """Build a network that several processes cannot train."""
    model = Net()
    model.norm = OwnNorm(6).double()
    return model


def with_idle_part() -> Net:
    """Build a network of which a step does not use all."""
    model = Net()
    model.idle = nn.Linear(2, 2).double()
    return model


def fail(team: Team, folder: Path) -> None:
    """Ask for what cannot be; every process has to find that out, and none to wait."""
    last = team.rank == team.size - 1
    found: dict[str, str] = {}

    def note(name: str, **options: object) -> None:
        try:
            train("sgd", **options)
        except zoo.CifarZooError as error:
            found[name] = f"{type(error).__name__}: {error}"

    Net.lost_at = 2 if last else None
    note("lost")
    Net.lost_at = None
    note("differ", seed=team.rank)
    (folder / "file").touch()
    note("write", checkpoint=folder / "file" / "run.pt")
    (folder / "damaged.pt").write_bytes(b"no checkpoint")
    note("damaged", checkpoint=folder / "damaged.pt")
    note("norm", build=with_own_norm)
    note("idle", build=with_idle_part)
    (folder / f"failed-{team.rank}.json").write_text(json.dumps(found))


TASKS = {task.__name__: task for task in (agree, show, see, score, stop, die, die_first, fail)}


if not hasattr(torch.optim, "Muon"):  # which torch has since 2.9
    del RECIPES["muon"]


def main() -> None:
    """Join the other processes, and do the tasks."""
    torch.set_num_threads(1)
    with joined("cpu") as team:
        for task in sys.argv[2:]:
            TASKS[task](team, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
