from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cifarzoo import save_weights
from cifarzoo.files import replace_file, write_text
from cifarzoo.training.checkpoint import Checkpoint


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for content in ("first", "second"):
        write_text(path, content)
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_old_content_survives_a_failed_write(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with replace_file(path) as temporary:
            temporary.write(b"ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class HeldOpenError(PermissionError):
    """What Windows raises while another program has the old file open."""

    winerror = 5


def test_a_file_that_windows_holds_open_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "file.txt", Path.replace
    waits: list[float] = []
    errors: list[PermissionError] = [HeldOpenError(), HeldOpenError()]

    def fail_at_first(source: Path, target: Path) -> Path:
        if errors:
            raise errors.pop()
        return replace(source, target)

    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(Path, "replace", fail_at_first)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert len(waits) == 2
    for error, attempts in ((PermissionError(), 1), (HeldOpenError(), 6)):
        errors = [error] * 10
        with pytest.raises(PermissionError):
            write_text(path, "newer")
        assert len(errors) == 10 - attempts
        assert [each.name for each in tmp_path.iterdir()] == ["file.txt"]
    assert sum(waits) < 5  # seconds


def test_concurrent_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replace_file(path) as one:
        one.write(b"one")
        write_text(path, "two, longer")
        assert path.read_text() == "two, longer"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


WRITERS: list[Callable[[Path], None]] = [
    lambda path: write_text(path, "new"),
    lambda path: save_weights(nn.Linear(2, 2), path),
    lambda path: Checkpoint(path, {}).save(dict),
]


@pytest.mark.parametrize("write", WRITERS, ids=["text", "weights", "checkpoint"])
def test_a_link_at_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file.safetensors"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    try:
        (tmp_path / ".file.safetensors.00000000.partial").symlink_to(victim)
    except OSError:
        pytest.skip("Windows allows links in developer mode only")
    with pytest.raises(Exception, match="File exists"):
        write(path)
    assert victim.read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("write", WRITERS, ids=["text", "weights", "checkpoint"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_have_the_permissions_that_open_gives(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "file.safetensors"
    before = os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_checkpoints_are_read_by_torch(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, {}).save(lambda: {"weights": torch.arange(5)})
    stored = torch.load(path, mmap=True)  # which needs torch's zip format
    assert stored["payload"]["weights"].tolist() == [0, 1, 2, 3, 4]
