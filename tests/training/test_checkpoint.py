from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifarzoo import CheckpointError
from cifarzoo.training.checkpoint import Payload, load_checkpoint, save_checkpoint

IDENTITY: Payload = {"model": "abc", "seed": 0, "recipe.lr": "0.05"}
PAYLOAD: Payload = {
    "model": {"weight": torch.arange(200.0)},
    "step": 7,
    "checks": [{"step": 3, "val_loss": None}],
    "stopped": None,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.pt"
    save_checkpoint(path, PAYLOAD, IDENTITY)
    return path


def _load(path: Path) -> dict[str, Any]:
    payload = load_checkpoint(path, IDENTITY)
    assert payload is not None
    return payload


def test_what_was_saved_comes_back(path: Path) -> None:
    payload = _load(path)
    assert torch.equal(payload["model"]["weight"], torch.arange(200.0))
    assert {key: payload[key] for key in ("step", "checks", "stopped")} == {
        "step": 7,
        "checks": [{"step": 3, "val_loss": None}],
        "stopped": None,
    }


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.pt", IDENTITY) is None


def test_folder_is_made_and_nothing_else_is_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "run.pt"
    for _ in range(2):
        save_checkpoint(path, PAYLOAD, IDENTITY)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed: 0 in the file, 1 now"),
        ({"recipe.lr": "0.1"}, "recipe.lr: '0.05' in the file, '0.1' now"),
        ({"new": 1}, "new: None in the file, 1 now"),
    ],
)
def test_checkpoint_of_another_run_is_refused_with_the_differences(
    path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match="belongs to another run") as caught:
        load_checkpoint(path, {**IDENTITY, **changes})
    assert message in str(caught.value)
    assert "another path" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_checkpoint_is_refused_with_a_way_out(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="delete it to start the run anew"):
        _load(path)


def test_changed_bytes_are_noticed_or_do_not_matter(path: Path) -> None:
    chance, content = random.Random(0), path.read_bytes()
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            weight = _load(path)["model"]["weight"]
        except CheckpointError:
            refused += 1
        else:
            assert torch.equal(weight, torch.arange(200.0))
    assert refused > 50  # the rest hit the padding between the records


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint",
        _saved({"weight": torch.zeros(3)}),
        _saved(torch.zeros(3)),
        _saved([1, 2]),
        _saved({"format": 1, "identity": "x", "payload": {}}),
        _saved({"format": 1, "identity": {}, "payload": None}),
    ],
)
def test_another_kind_of_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        _load(path)


def test_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder; give the path of a file"):
        load_checkpoint(tmp_path, IDENTITY)
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(tmp_path, PAYLOAD, IDENTITY)


def test_later_format_is_refused(path: Path) -> None:
    torch.save({"format": 2, "identity": IDENTITY, "payload": {}}, path)
    with pytest.raises(CheckpointError, match="format 2; this version of cifarzoo reads 1"):
        _load(path)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["torch", "pickle", "inside"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, path: Path, kind: str) -> None:
    target = tmp_path / "executed"
    if kind == "torch":
        torch.save(Bomb(target), path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(target)))
    else:
        torch.save({"format": 1, "identity": IDENTITY, "payload": {"model": Bomb(target)}}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        _load(path)
    assert not target.exists()
    if kind != "pickle":  # the bomb is a real one
        assert zipfile.is_zipfile(path)
        torch.load(path, weights_only=False)
        assert target.exists()


@pytest.mark.parametrize("step", ["write", "flush", "rename"])
def test_failed_write_leaves_the_one_before_intact(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def half(value: object, file: Path) -> None:
        file.write_bytes(b"half")
        full()

    if step == "write":
        monkeypatch.setattr(torch, "save", half)
    elif step == "flush":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CheckpointError, match=r"No space left.*is intact"):
        save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_cannot_be_read_back_leaves_the_one_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def garbled(value: object, file: Path) -> None:
        save(value, file)
        content = bytearray(file.read_bytes())
        content[content.index(b"data/0") + 200] ^= 1
        file.write_bytes(content)

    monkeypatch.setattr(torch, "save", garbled)
    with pytest.raises(CheckpointError, match=r"was changed.*is intact"):
        save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_write_leaves_the_one_before_and_no_litter(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


def test_bytes_are_on_the_disk_before_the_name_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        order.append("fsync")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    save_checkpoint(path, PAYLOAD, IDENTITY)
    assert order == ["fsync", "rename", "fsync"]
