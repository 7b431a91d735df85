"""`cifarzoo data`: what is found where, verified and downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.conftest import Release, make_release, write_binary, write_pngs
from typer.testing import Result

from cifarzoo.data import cifar

Call = Callable[..., Result]


@pytest.fixture
def releases(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Release]:
    """Small data sets in place of the real ones, and hosts that do not answer."""
    made = {}
    for key in ("cifar10", "cifar100"):
        made[key] = make_release(key, tmp_path_factory.mktemp(key))
        monkeypatch.setattr(cifar, key.upper(), made[key].data)
    monkeypatch.setattr("cifarzoo.data.published.HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("cifarzoo.data.published.MIRRORS", ())
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("CIFARZOO_MIRROR", raising=False)
    return made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in CIFARZOO_DATA, next to an empty cache."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CIFARZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("pooch.os_cache", lambda _: str(tmp_path / "cache"))
    return tmp_path / "data"


def test_every_copy_is_listed_in_the_order_of_use(
    call: Call, releases: dict[str, Release], root: Path
) -> None:
    ten = releases["cifar10"]
    binary = write_binary(ten.data, ten.splits, root)
    tree = write_pngs(ten.data, ten.splits, root / "tree")
    cache = ten.extract_to(root.parent / "cache")
    result = call("data")
    header, *lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert [name.strip() for name in header if name] == ["data", "form", "path", "state"]
    found = [[cell.strip() for cell in line if cell] for line in lines]
    assert found == [
        ["cifar10", "binary folder", str(binary), "not verified"],
        ["cifar10", "PNG files", str(tree), "not verified"],
        ["cifar10", "folder", str(cache), "not verified"],
        ["cifar100", "–", "–", "not found"],
    ]
    assert f"CIFAR-100 was not found in {root} (CIFARZOO_DATA)" in result.stderr
    assert "cifarzoo data --fetch" in result.stderr


def test_copies_are_verified(call: Call, releases: dict[str, Release], root: Path) -> None:
    for release in releases.values():
        folder = write_binary(release.data, release.splits, root)
    result = call("data", "--verify", "--json")
    ten, hundred = json.loads(result.stdout)
    assert (ten["state"], ten["message"]) == ("verified", None)
    assert hundred["state"] == "verified"
    assert "possibly not in the published order" in hundred["message"]
    (folder / "test.bin").write_bytes(b"")
    result = call("data", "--verify", code=1)
    assert [line.split()[-1] for line in result.stdout.splitlines()[1:]] == ["verified", "refused"]
    assert f"{folder / 'test.bin'} (0 bytes) is not as published" in result.stderr


def test_the_files_are_verified_not_the_cache(
    call: Call, releases: dict[str, Release], root: Path
) -> None:
    release = releases["cifar10"]
    tree = write_pngs(release.data, release.splits, root)
    release.load(root)
    path, other = sorted((tree / "train" / "cat").iterdir())[:2]
    status = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "refused" in call("data", "--data", "cifar10", "--verify", code=1).stdout


def test_data_is_fetched_where_it_is_missing(
    call: Call, releases: dict[str, Release], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten, hundred = releases.values()
    write_binary(ten.data, ten.splits, root)

    def download(urls: list[str], path: Path, **_: object) -> list[str]:
        path.write_bytes(hundred.archive)
        return []

    monkeypatch.setattr(cifar, "download_file", download)
    rows = json.loads(call("data", "--fetch", "--verify", "--json").stdout)
    assert [(row["form"], row["state"]) for row in rows] == [
        ("binary folder", "verified"),
        ("archive", "verified"),
    ]
    assert rows[1]["path"] == str(root / hundred.data.python.archive)


def test_a_failed_download_says_why_and_how_much_there_is(
    call: Call, releases: dict[str, Release], root: Path
) -> None:
    archive = releases["cifar10"].archive
    part = root / "cifar-10-python.tar.gz.part"
    part.write_bytes(archive[: len(archive) // 2])
    result = call("data", "--data", "cifar10", "--fetch", code=1)
    assert "http://127.0.0.1:9/cifar-10-python.tar.gz: " in result.stderr
    assert f"{part} holds 50% of the archive" in result.stderr
    assert part.read_bytes() == archive[: len(archive) // 2]
    assert "50%" in call("data", "--data", "cifar10").stderr


def test_another_folder_and_data_set_can_be_named(
    call: Call, releases: dict[str, Release], root: Path, tmp_path: Path
) -> None:
    release = releases["cifar100"]
    release.extract_to(tmp_path / "other")
    rows = json.loads(
        call("data", "--data", "cifar100", "--root", tmp_path / "other", "--json").stdout
    )
    assert [row["path"] for row in rows] == [str(tmp_path / "other")]
    assert "'cifar'" in call("data", "--data", "cifar", code=2).stderr
