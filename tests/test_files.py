"""Files are replaced whole or not at all, whatever kind of file they are."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import torch

import cifarzoo as zoo
from cifarzoo.files import replacing


def test_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for content in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent  # a rename across file systems is a copy
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_old_content_stays_if_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_deleted_an_hour_later(tmp_path: Path) -> None:
    path = tmp_path / "file[1].txt"
    old, new, other = (
        tmp_path / name
        for name in (".file[1].txt.ab.partial", ".file[1].txt.cd.partial", ".file1.txt.ab.partial")
    )
    for left in (old, new, other):
        left.write_text("left behind")
    for left in (old, other):
        os.utime(left, (0, 0))
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, new, other])


@pytest.mark.skipif(os.name != "posix", reason="asks for processes by their number")
def test_what_a_killed_process_left_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    child = os.spawnl(os.P_NOWAIT, sys.executable, sys.executable, "-c", "")
    os.waitpid(child, 0)
    with replacing(path) as mine:
        others = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{child}-"))
        elsewhere = others.with_name(others.name.replace("file.txt.", "file.txt.x"))
        for left in (mine, others, elsewhere):
            left.write_text("half")
        with replacing(path) as temporary:
            temporary.write_text("whole")
        assert sorted(tmp_path.iterdir()) == sorted([path, mine, elsewhere])


def test_two_that_write_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as two:
            two.write_text("two, ")
            assert one != two
        assert path.read_text() == "two, "
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    usual = tmp_path / "usual.txt"
    usual.write_text("usual")
    with replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("content")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file.txt", "usual.txt")]
    assert modes[0] == modes[1]


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_process_that_may_not_be_asked_is_taken_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as mine:
        mine.write_text("half")

        def forbidden(process: int, sign: int) -> None:
            assert (process, sign) == (os.getpid(), 0)
            raise PermissionError

        monkeypatch.setattr(os, "kill", forbidden)
        with replacing(path) as temporary:
            temporary.write_text("whole")
        assert mine.exists()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has a umask")
@pytest.mark.parametrize("written", [0o600, 0o666])
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_file_is_what_the_umask_says(
    tmp_path: Path, umask: int, mode: int, written: int
) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.touch()
            temporary.chmod(written)
        zoo.save_weights(torch.nn.Linear(2, 2), tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == mode


def test_a_disk_that_knows_no_modes_gets_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("all")
        temporary.chmod(0o600)
        monkeypatch.setattr(Path, "chmod", refused)
    assert (tmp_path / "a").read_text() == "all"
