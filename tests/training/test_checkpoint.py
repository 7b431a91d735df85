from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typing_extensions import override

from cifarzoo import Augmentation, ImageClassifier, Loaders, Recipe
from cifarzoo.errors import CheckpointError
from cifarzoo.training.checkpoint import Checkpoint, identity_of, read_parts

IDENTITY: dict[str, Any] = {"model": "abc", "seed": 0, "recipe.lr": "0.05"}
PAYLOAD: dict[str, Any] = {
    "model": {"weight": torch.arange(200.0)},
    "step": 7,
    "checks": [{"step": 3, "val_loss": None}],
    "parts": ["abc, one machine"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "run.pt"
    _save(path)
    return path


def _save(path: Path, **changes: object) -> None:
    Checkpoint(path, IDENTITY).save(lambda: {**PAYLOAD, **changes})


def _load(path: Path, **changes: object) -> Any:  # noqa: ANN401 - what was stored
    return Checkpoint(path, {**IDENTITY, **changes}).load()


def test_saved_content_is_loaded(path: Path) -> None:
    assert torch.equal(_load(path)["model"]["weight"], torch.arange(200.0))
    assert _load(path)["checks"] == PAYLOAD["checks"]
    assert read_parts(path) == ["abc, one machine"]
    assert list(path.parent.iterdir()) == [path], "temporary files are left"


def test_missing_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert _load(tmp_path / "none.pt") is None
    assert read_parts(tmp_path / "none.pt") == []


def test_checkpoint_of_another_run_is_rejected_with_the_differences(path: Path) -> None:
    changes = {"recipe.lr": "0.1", "new": 1}
    with pytest.raises(CheckpointError, match=r"recipe\.lr was 0\.05, is 0\.1; new was None"):
        _load(path, **changes)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_truncated_file_is_rejected(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (_load, read_parts):
        with pytest.raises(CheckpointError, match=r"run\.pt as a checkpoint"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        {"weight": torch.zeros(3)},
        {"format": 3, "identity": {}, "payload": None},
        {"format": 2, "identity": IDENTITY, "payload": PAYLOAD},
    ],
    ids=lambda content: str(content)[:20],
)
def test_other_files_are_rejected(path: Path, content: object) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="as a checkpoint"):
        _load(path)


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    @override
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_file_is_not_executed(tmp_path: Path, path: Path) -> None:
    bomb = Bomb(tmp_path / "executed")
    _save(path, model=bomb)
    with pytest.raises(CheckpointError):
        _load(path)
    assert not bomb.target.exists()


def test_identity_distinguishes_runs(
    make_model: Callable[..., ImageClassifier], make_loaders: Callable[..., Loaders]
) -> None:
    model, loaders, recipe = make_model(), make_loaders(), Recipe()

    def identity(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
        usual = {"model": model, "loaders": loaders, "recipe": recipe, "teacher": None, "seed": 0}
        arguments: dict[str, Any] = usual | changes
        return identity_of(**arguments)

    frozen = make_model()
    frozen.get_parameter("network.head.logits.bias").requires_grad_(False)
    different = [
        identity(model=make_model(filters=(4, 4))),
        identity(model=make_model(dropout=0.1)),
        identity(model=frozen),
        identity(loaders=make_loaders(seed=1)),
        identity(loaders=make_loaders(n_val=18)),
        identity(loaders=make_loaders(batch_size=4)),
        identity(recipe=replace(recipe, lr=0.1)),
        identity(recipe=replace(recipe, augmentation=Augmentation())),
        identity(seed=1),
        identity(teacher=make_model(seed=1)),
        identity(teacher=make_model(seed=2)),
    ]
    assert identity() == identity(model=make_model(seed=1), loaders=make_loaders())
    assert len({repr(each) for each in (identity(), *different)}) == len(different) + 1
    other = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    assert identity(model=other) != identity(model=nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
