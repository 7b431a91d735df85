from __future__ import annotations

from pathlib import Path

import pytest

from cifarzoo.files import replace_file, write_text


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
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_concurrent_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replace_file(path) as one:
        one.write_text("one")
        write_text(path, "two, longer")
        assert path.read_text() == "two, longer"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
