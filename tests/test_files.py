"""Files are replaced whole or not at all, whatever kind of file they are."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

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


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    (tmp_path / ".file.txt.partial").write_text("left behind, and longer than what comes")
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
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
