"""Tests of reading, verifying and decoding the data files."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from cifarzoo.data.batches import (
    CIFAR10,
    decode,
    missing_files,
    read_archive,
    read_folder,
)
from cifarzoo.errors import DataCorruptError

if TYPE_CHECKING:
    from tests.data.conftest import Fake, Packer


def test_the_release_is_the_published_one() -> None:
    assert len(CIFAR10.files) == 7
    assert CIFAR10.archive == "cifar-10-python.tar.gz"
    assert CIFAR10.archive_md5 == "c58f30108f718f92721af3b95e74349a"
    assert len({file.sha256 for file in CIFAR10.files}) == 7


def test_folder_is_decoded_in_order(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path)
    data = decode(read_folder(folder, fake.release), fake.release)
    assert data.train_images.shape == (22, 3, 32, 32)
    assert data.test_images.shape == (5, 3, 32, 32)
    assert data.train_labels[:9].tolist() == [0, 9, 0, 5, 1, 9, 0, 5, 1]
    assert data.test_labels.tolist() == [5, 9, 0, 5, 5]
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64


def test_planes_are_red_green_blue_rows(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path)
    data = decode(read_folder(folder, fake.release), fake.release)
    content = fake.contents["data_batch_1"]
    first = content[content.index(bytes(data.train_images[0, 0, 0].tolist())) :]
    assert data.train_images[0].flatten().tolist() == list(first[:3072])
    assert data.train_images.is_contiguous(memory_format=torch.channels_last)


def test_archive_gives_what_the_folder_gives(fake: Fake, tmp_path: Path) -> None:
    archive = tmp_path / "any-name.tar.gz"
    archive.write_bytes(fake.archive)
    folder = fake.extract_to(tmp_path / "folder")
    one = decode(read_archive(archive, fake.release), fake.release)
    other = decode(read_folder(folder, fake.release), fake.release)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_repacked_archive_is_as_good(fake: Fake, packed: Packer) -> None:
    repacked = packed({"junk": b"x" * 10_000, **dict(reversed(fake.contents.items()))})
    assert repacked.read_bytes() != fake.archive
    assert dict(read_archive(repacked, fake.release)) == fake.contents


def test_members_with_a_leading_dot_are_found(fake: Fake, tmp_path: Path) -> None:
    from_here = tmp_path / "here.tar.gz"
    with tarfile.open(from_here, "w:gz") as tar:
        for name, content in fake.contents.items():
            member = tarfile.TarInfo(f"./fake-batches/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert dict(read_archive(from_here, fake.release)) == fake.contents


def test_missing_files_are_listed(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path)
    (folder / "data_batch_3").unlink()
    assert missing_files(folder, fake.release) == ["data_batch_3"]
    assert len(missing_files(tmp_path / "nowhere", fake.release)) == 7


def _truncate(content: bytes) -> bytes:
    return content[:-1]


def _change_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _append(content: bytes) -> bytes:
    return content + b"\0"


DAMAGES = pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncate, "truncated"),
        (_append, "not the published file"),
        (_change_a_bit, "its content was changed"),
    ],
)


def _assert_says_enough(message: str) -> None:
    assert "data_batch_4" in message
    assert "expected" in message
    assert "CIFARZOO_DATA" in message


@DAMAGES
def test_damage_in_a_folder_is_named(
    fake: Fake, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    folder = fake.extract_to(tmp_path)
    (folder / "data_batch_4").write_bytes(damage(fake.contents["data_batch_4"]))
    with pytest.raises(DataCorruptError, match=reason) as caught:
        list(read_folder(folder, fake.release))
    _assert_says_enough(str(caught.value))


@DAMAGES
def test_damage_in_an_archive_is_named(
    fake: Fake, packed: Packer, damage: Callable[[bytes], bytes], reason: str
) -> None:
    archive = packed({**fake.contents, "data_batch_4": damage(fake.contents["data_batch_4"])})
    with pytest.raises(DataCorruptError, match=reason) as caught:
        list(read_archive(archive, fake.release))
    _assert_says_enough(str(caught.value))


def test_swapped_files_are_told_apart(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path)
    (folder / "data_batch_1").write_bytes(fake.contents["data_batch_3"])
    (folder / "data_batch_3").write_bytes(fake.contents["data_batch_1"])
    with pytest.raises(DataCorruptError, match="it is data_batch_3 under another name"):
        list(read_folder(folder, fake.release))


def test_nothing_is_unpickled_before_its_hash_is_checked(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path)
    trap = tmp_path / "sprung"
    (folder / "data_batch_1").write_bytes(b"cos\nmkdir\n(V" + str(trap).encode() + b"\ntR.")
    with pytest.raises(DataCorruptError):
        decode(read_folder(folder, fake.release), fake.release)
    assert not trap.exists()


@pytest.mark.parametrize("hostile", [os.getcwd, print, eval])
def test_only_arrays_are_unpickled(fake: Fake, hostile: object) -> None:
    files = {**fake.contents, "data_batch_1": pickle.dumps(hostile, protocol=2)}
    with pytest.raises(DataCorruptError, match="only arrays are read"):
        decode(files.items(), fake.release)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_cut_off_archive_is_damaged(fake: Fake, tmp_path: Path, kept: float) -> None:
    archive = tmp_path / "cut.tar.gz"
    archive.write_bytes(fake.archive[: int(kept * len(fake.archive))])
    with pytest.raises(DataCorruptError, match=r"cut\.tar\.gz \([\d,]+ bytes; the published"):
        list(read_archive(archive, fake.release))


def test_something_else_is_not_an_archive(fake: Fake, tmp_path: Path) -> None:
    page = tmp_path / "page.tar.gz"
    page.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(DataCorruptError, match="is damaged"):
        list(read_archive(page, fake.release))


def test_archive_that_lacks_a_member_says_which(fake: Fake, packed: Packer) -> None:
    contents = {name: content for name, content in fake.contents.items() if name != "test_batch"}
    with pytest.raises(DataCorruptError, match="does not hold fake-batches/test_batch"):
        list(read_archive(packed(contents), fake.release))


def test_links_and_foreign_paths_are_not_followed(fake: Fake, tmp_path: Path) -> None:
    archive = tmp_path / "links.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("fake-batches/data_batch_1", "../../data_batch_2"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    with pytest.raises(DataCorruptError, match="does not hold"):
        list(read_archive(archive, fake.release))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["links.tar.gz"]


def test_an_archive_that_swells_is_left(fake: Fake, tmp_path: Path) -> None:
    archive = tmp_path / "bomb.tar.gz"
    junk = tarfile.TarInfo("junk")
    junk.size = 900_000
    with (
        gzip.open(archive, "wb", compresslevel=1) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for _ in range(9):
            tar.addfile(junk, io.BytesIO(bytes(junk.size)))
    with pytest.raises(DataCorruptError, match="unpacks to more than"):
        list(read_archive(archive, fake.release))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"size": "9" * 30}, r"claims to have 999,9"),
        ({"size": "100000000000"}, r"claims to have 100,000,000,000 bytes"),
        ({"size": "-512"}, "is damaged"),  # tarfile itself sees it in newer Pythons
        ({"GNU.sparse.map": "a,b"}, "a header cannot be read"),
        ({"GNU.sparse.size": "x"}, "a header cannot be read"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, "is damaged"),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_headers_that_lie_are_not_followed(
    fake: Fake, tmp_path: Path, headers: dict[str, str], message: str, others: int
) -> None:
    archive = tmp_path / "lies.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for i in range(others):
            tar.addfile(tarfile.TarInfo(f"other{i}"))
        member = tarfile.TarInfo("member")
        member.pax_headers = headers
        tar.addfile(member)
    with pytest.raises(DataCorruptError, match=message):
        list(read_archive(archive, fake.release))


def test_a_name_that_is_announced_without_end_is_left(fake: Fake, tmp_path: Path) -> None:
    announced = tarfile.TarInfo("././@LongLink")
    announced.type, announced.size = tarfile.GNUTYPE_LONGNAME, 1
    archive = tmp_path / "names.tar.gz"
    archive.write_bytes(gzip.compress(5000 * (announced.tobuf(tarfile.GNU_FORMAT) + bytes(512))))
    with pytest.raises(DataCorruptError, match="a header cannot be read"):
        list(read_archive(archive, fake.release))


def test_swapped_files_of_other_sizes_are_recognised(fake: Fake, tmp_path: Path) -> None:
    folder = fake.extract_to(tmp_path / "fake-batches")
    one, meta = folder / "data_batch_1", folder / "batches.meta"
    one.write_bytes(meta.read_bytes())
    with pytest.raises(DataCorruptError, match=r"the size of batches\.meta; is it that file"):
        list(read_folder(folder, fake.release))
