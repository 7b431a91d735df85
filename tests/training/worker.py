"""Script that `test_processes` runs under `torchrun`: worker.py FOLDER TASK..."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo.device import seeded
from cifarzoo.training import distributed

RECIPES = {
    "sgd": zoo.Recipe(epochs=2, lr=0.05, momentum=0.9, label_smoothing=0.1, checks_per_epoch=2),
    "early": zoo.Recipe(epochs=20, lr=0.5, early_stopping=zoo.EarlyStopping(patience=2)),
    "groups": zoo.Recipe(
        epochs=2,
        optimizer="adamw",
        lr=1e-3,
        schedule="cosine",
        groups=(zoo.ParamGroup(params="conv.bias", optimizer="sgd", lr=0.1, epochs=0.5),),
        averaging=zoo.Averaging(decay=0.9),
        image_sizes=(20, 32),
        keep="last",
    ),
}


class Net(nn.Module):
    """A network in double precision, so that rounding cannot hide an error."""

    sigterm_at: int | None = None  # step that sends SIGTERM to this process
    nan_at: int | None = None  # step with NaN logits

    def __init__(self, dropout: float = 0.0, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6) if batch_norm else nn.GroupNorm(2, 6)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(6, 10)
        self.steps = 0
        self.double()

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N,10)."""
        self.steps += self.training
        if self.training and self.sigterm_at == self.steps:
            signal.raise_signal(signal.SIGTERM)
        if self.steps == self.nan_at:
            images = images * float("nan")
        maps = nn.functional.silu(self.norm(self.conv(images.double())))
        logits: Tensor = self.head(self.drop(maps.mean((2, 3))))
        return logits


class Idle(Net):
    """A network with parameters that receive no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2).double()


def loaders() -> zoo.Loaders:
    """36 training images in batches of 10, the last 6 dropped; 4 validation and 30 test images."""
    augmentation = zoo.Augmentation(flip="random", translate=2)
    return zoo.shapes_loaders(10, n_train=40, n_test=30, augmentation=augmentation, seed=3)


def train(model: Net, recipe: str = "sgd", **options: object) -> dict[str, object]:
    """Train a network and return its final state and its checks."""
    arguments = {"device": "cpu", "precision": "float32", "progress": False, **options}
    data = arguments.pop("loaders", loaders())
    history = zoo.fit(model, data, RECIPES[recipe], **arguments)  # type: ignore[arg-type]
    checks = [
        (check.step, check.train_loss, check.train_accuracy, check.val_loss, check.val_accuracy)
        for check in history.checks
    ]
    return {
        "state": dict(model.state_dict()),
        "checks": checks,
        "images": history.images,
        "taken": model.steps,
    }


def _net(*, seed: int = 0, **options: object) -> Net:
    with seeded(seed):
        return Net(**options)  # type: ignore[arg-type]


def _save(folder: Path, name: str, value: object) -> None:
    torch.save(value, folder / f"{name}-{distributed.rank()}.pt")


def agree(folder: Path) -> None:
    """Train with every recipe; each process starts from other weights."""
    for recipe in RECIPES:
        _save(folder, recipe, train(_net(seed=distributed.rank()), recipe))
    _save(folder, "norm", train(_net(batch_norm=True), "groups"))


def gather(folder: Path) -> None:
    """Gather one row from the first process, two from the second."""
    rank = distributed.rank()
    _save(folder, "rows", distributed.gather_rows(torch.full((rank + 1, 2), rank)))


class Calls(zoo.Callback):
    """Creates a file when it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def on_check(self, check: zoo.Check) -> None:
        """Create a file."""
        (self.folder / f"called-{distributed.rank()}").touch()


def stop(folder: Path) -> None:
    """Stop all processes by SIGTERM to the last one, and resume."""
    _save(folder, "whole", train(_net(dropout=0.5)))
    last = distributed.rank() == distributed.world_size() - 1
    Net.sigterm_at = 2 if last else None
    try:
        train(_net(dropout=0.5), checkpoint=folder / "stopped.pt", callbacks=[Calls(folder)])
    except KeyboardInterrupt:
        (folder / f"stopped-{distributed.rank()}").touch()
    Net.sigterm_at = None
    _save(folder, "resumed", train(_net(dropout=0.5), checkpoint=folder / "stopped.pt"))


def fail(folder: Path) -> None:
    """Cause errors, which every process has to raise instead of waiting for the others."""
    last = distributed.rank() == distributed.world_size() - 1
    found: dict[str, str] = {}

    def record(name: str, model: Net, **options: object) -> None:
        try:
            train(model, **options)  # type: ignore[arg-type]
        except (zoo.CifarZooError, RuntimeError) as error:
            found[name] = f"{type(error).__name__}: {error}"

    Net.nan_at = 2 if last else None
    record("nan", _net())
    Net.nan_at = None
    record("seeds", _net(), seed=distributed.rank())
    (folder / "file").touch()
    record("path", _net(), checkpoint=folder / "file" / "run.pt")
    images, labels = next(iter(loaders().train))
    train_loader = zoo.TensorLoader((images * 255).byte(), labels, batch_size=9)
    record("uneven", _net(), loaders=zoo.Loaders(train_loader))
    record("idle", Idle())
    (folder / f"failed-{distributed.rank()}.json").write_text(json.dumps(found))


def main() -> None:
    """Join the other processes and run the tasks."""
    torch.set_num_threads(1)
    tasks = {task.__name__: task for task in (agree, gather, stop, fail)}
    with distributed.process_group("cpu"):
        for task in sys.argv[2:]:
            tasks[task](Path(sys.argv[1]))


if __name__ == "__main__":
    main()
