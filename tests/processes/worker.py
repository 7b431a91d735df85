"""What each process of the tests does; `torchrun` starts it, and so does a test, alone.

worker.py FOLDER TASK...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import cifarzoo as zoo
from cifarzoo.hardware import seeded
from cifarzoo.processes import Team, joined

RECIPES = {
    "sgd": zoo.Recipe(epochs=2, lr=0.05, momentum=0.9, label_smoothing=0.1, checks_per_epoch=2),
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
        maps = self.act(self.norm(self.conv(images.double())))
        logits: Tensor = self.head(self.drop(self.norm2(maps.mean((2, 3)))))
        return logits


def loaders() -> zoo.Loaders:
    """36 training images in batches of 10, of which six are dropped; 4 to validate, 30 to test."""
    augmentation = zoo.Augmentation(flip="random", translate=2)
    return zoo.shapes_loaders(10, n_train=40, n_test=30, augmentation=augmentation, seed=3)


def train(recipe: str, **options: object) -> tuple[Net, zoo.History]:
    """Train a network by one of the recipes."""
    with seeded(0):
        model = Net(float(str(options.pop("dropout", 0.0))))
    history = zoo.fit(
        model,
        loaders(),
        RECIPES[recipe],
        device="cpu",
        precision="float32",
        progress=False,
        **options,  # type: ignore[arg-type]
    )
    return model, history


def save(team: Team, folder: Path, name: str, model: Net, history: zoo.History) -> None:
    """Keep what a process ended with."""
    checks = [
        (check.step, check.train_loss, check.train_accuracy, check.val_loss, check.val_accuracy)
        for check in history.checks
    ]
    found = {"state": model.state_dict(), "checks": checks, "images": history.images}
    torch.save(found, folder / f"{name}-{team.rank}.pt")


def agree(team: Team, folder: Path) -> None:
    """Train by every recipe."""
    for name in RECIPES:
        save(team, folder, name, *train(name))


def see(team: Team, folder: Path) -> None:
    """Write down which images of two epochs this process is given."""
    share = team.share(loaders().train)
    assert isinstance(share, zoo.TensorLoader)
    seen = [torch.cat(list(share.indices(epoch))) for epoch in range(2)]
    torch.save(seen, folder / f"seen-{team.rank}.pt")


def score(team: Team, folder: Path) -> None:
    """Score a network over all test images, each process its share."""
    with seeded(0):
        card = zoo.model_card("report_baseline")
        run = zoo.train(
            card,
            data=zoo.shapes_loaders(32, n_train=40, n_test=250, seed=3),
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
    """Notes that it was called, and does something at a step.

    Args:
        folder: where the notes go.
        rank: of the process.
        act: what to do at a step: "interrupt" or "nothing".
    """

    def __init__(self, folder: Path, rank: int, act: str = "nothing") -> None:
        self.folder, self.rank, self.act = folder, rank, act

    def on_check(self, check: zoo.Check) -> None:
        """Note it, and act."""
        (self.folder / f"called-{self.rank}").touch()
        if self.act == "interrupt" and check.step == 3:
            signal.raise_signal(signal.SIGTERM)


def stop(team: Team, folder: Path) -> None:
    """Train with dropout: one process is asked to end, all stop, all go on to the same end."""
    model, history = train("sgd", dropout=0.5)
    save(team, folder, "whole", model, history)
    options = {"dropout": 0.5, "checkpoint": folder / "stopped.pt"}
    try:
        train("sgd", callbacks=[Calls(folder, team.rank, "interrupt")], **options)
    except KeyboardInterrupt:
        (folder / f"stopped-{team.rank}").touch()
    save(team, folder, "resumed", *train("sgd", **options))


def die(team: Team, folder: Path) -> None:
    """Train; the last process is killed at its fifth step, unless it was before."""
    mark = folder / "killed"
    if not mark.exists() and team.rank == team.size - 1:
        mark.touch()
        Net.last_step = 5
    save(team, folder, "survived", *train("sgd", checkpoint=folder / "dying.pt"))


TASKS = {task.__name__: task for task in (agree, see, score, stop, die)}


def main() -> None:
    """Join the other processes, and do the tasks."""
    torch.set_num_threads(1)
    with joined("cpu") as team:
        for task in sys.argv[2:]:
            TASKS[task](team, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
