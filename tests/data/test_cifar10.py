"""Tests of finding and downloading CIFAR-10, and of the real data where it is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cifarzoo.data.batches import CIFAR10
from cifarzoo.data.cifar10 import CLASSES, Place, _load, _places, load_cifar10
from cifarzoo.data.images import ImageData
from cifarzoo.errors import DataCorruptError, DataNotFoundError, DownloadError
from cifarzoo.fetching import Patience

if TYPE_CHECKING:
    from tests.data.conftest import Fake, Packer, Server

ONCE = Patience(retries=0, timeout_seconds=5)


def at(path: Path) -> Place:
    return Place(path=path, origin="root")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".cifarzoo.lock")


# Where it is looked for


def test_root_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARZOO_DATA", "/elsewhere")
    assert _places("/here") == (Place(path=Path("/here"), origin="root"),)


def test_environment_comes_before_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARZOO_DATA", "~/data")
    named, cache = _places(None)
    assert named.path == Path.home() / "data"
    assert "cifarzoo" in cache.path.parts


@pytest.mark.parametrize("unset", [None, ""])
def test_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, unset: str | None) -> None:
    if unset is not None:
        monkeypatch.setenv("CIFARZOO_DATA", unset)
    (place,) = _places(None)
    assert "cifarzoo" in place.path.parts
    assert "CIFARZOO_DATA is not set" in place.origin


def test_second_place_serves_where_the_first_has_nothing(
    fake: Fake, server: Server, tmp_path: Path
) -> None:
    empty, cache = tmp_path / "empty", tmp_path / "cache"
    fake.extract_to(cache)
    found = _load(at(empty), server.release(fake), patience=ONCE, others=[at(cache)])
    assert len(found.train_images) == 22
    assert server.asked == []
    with pytest.raises(DataNotFoundError) as caught:
        _load(at(empty), fake.release, patience=None, others=[at(tmp_path / "none")])
    assert str(empty) in str(caught.value)
    assert str(tmp_path / "none") in str(caught.value)


@pytest.mark.parametrize("inside", ["", "fake-batches"])
def test_extracted_folder_is_found(fake: Fake, tmp_path: Path, inside: str) -> None:
    fake.extract_to(tmp_path / inside)
    assert len(_load(at(tmp_path), fake.release, patience=None).train_images) == 22


def test_archive_alone_is_found(fake: Fake, packed: Packer) -> None:
    archive = packed(fake.contents)
    by_folder = _load(at(archive.parent), fake.release, patience=None)
    by_path = _load(at(archive), fake.release, patience=None)
    assert torch.equal(by_folder.train_images, by_path.train_images)


def test_incomplete_folder_leaves_it_to_the_archive(
    fake: Fake, packed: Packer, tmp_path: Path
) -> None:
    folder = packed(fake.contents).parent
    extracted = fake.extract_to(folder / "fake-batches")
    (extracted / "test_batch").unlink()
    assert len(_load(at(folder), fake.release, patience=None).test_images) == 5


def test_missing_data_says_where_it_looked_and_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError) as caught:
        load_cifar10(tmp_path, download=False)
    message = str(caught.value)
    for place in ("cifar-10-batches-py", "", "cifar-10-python.tar.gz"):
        assert str(tmp_path / place) in message
    for way in ("CIFARZOO_DATA", "root=", "download=True", "CIFARZOO_MIRROR", "shapes_loaders"):
        assert way in message


def test_incomplete_folder_is_named(fake: Fake, tmp_path: Path) -> None:
    fake.extract_to(tmp_path / "fake-batches")
    (tmp_path / "fake-batches" / "data_batch_2").unlink()
    with pytest.raises(DataNotFoundError, match="fake-batches: lacks data_batch_2"):
        _load(at(tmp_path), fake.release, patience=None)


def test_path_of_an_archive_that_is_not_there_is_not_downloaded_to(
    fake: Fake, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataNotFoundError, match="there is no such file"):
        _load(at(tmp_path / "typo.tar.gz"), server.release(fake), patience=ONCE)
    assert server.asked == []
    assert leftovers(tmp_path) == []


def test_data_is_not_found_error_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_cifar10(tmp_path, download=False)


# Downloading


def test_download_goes_into_the_folder_once(fake: Fake, server: Server, tmp_path: Path) -> None:
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)
    for _ in range(2):
        data = _load(at(tmp_path / "new"), server.release(fake), patience=ONCE)
        assert len(data.train_images) == 22
    assert server.asked == ["/home/fake.tar.gz"]
    assert leftovers(tmp_path / "new") == ["fake.tar.gz"]


def test_processes_fetch_once(fake: Fake, server: Server, tmp_path: Path) -> None:
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)

    def load(_: int) -> ImageData:
        return _load(at(tmp_path), server.release(fake), patience=ONCE)

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, range(4)))
    assert server.asked == ["/home/fake.tar.gz"]
    assert all(len(data.test_images) == 5 for data in loaded)


@pytest.mark.parametrize("form", ["{url}/mirror", "{url}/mirror/", "{url}/mirror/fake.tar.gz"])
def test_mirror_is_asked_first(
    fake: Fake, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("CIFARZOO_MIRROR", form.format(url=server.url))
    server.answers["/mirror/fake.tar.gz"] = (200, fake.archive, None)
    _load(at(tmp_path), server.release(fake), patience=ONCE)
    assert server.asked == ["/mirror/fake.tar.gz"]


@pytest.mark.parametrize("page", [(404, b"gone", None), (200, b"<html>Log in</html>", None)])
def test_canonical_host_steps_in_for_a_bad_mirror(
    fake: Fake,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: tuple[int, bytes, int | None],
) -> None:
    monkeypatch.setenv("CIFARZOO_MIRROR", f"{server.url}/mirror")
    server.answers["/mirror/fake.tar.gz"] = page
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)
    _load(at(tmp_path), server.release(fake), patience=ONCE)
    assert server.asked == ["/mirror/fake.tar.gz", "/home/fake.tar.gz"]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("case", ["missing", "page", "cut", "changed"])
def test_bad_downloads_are_told_and_leave_nothing(
    fake: Fake, server: Server, tmp_path: Path, case: str
) -> None:
    full = len(fake.archive)
    answers: dict[str, tuple[tuple[int, bytes, int | None], str]] = {
        "missing": ((404, b"", None), "404"),
        "page": (
            (200, b"<html>", None),
            f"received 6 bytes, expected {full:,}; they begin '<html>'",
        ),
        "cut": ((200, fake.archive[:1000], full), "1000 bytes read"),
        "changed": ((200, flipped(fake.archive), None), fake.release.archive_md5),
    }
    server.answers["/home/fake.tar.gz"], told = answers[case]
    with pytest.raises(DownloadError) as caught:
        _load(at(tmp_path), server.release(fake), patience=ONCE)
    message = str(caught.value)
    for part in (told, f"{server.url}/home/fake.tar.gz", str(tmp_path), "CIFARZOO_MIRROR"):
        assert part in message
    assert leftovers(tmp_path) == []


def test_dropped_connection_is_tried_again(
    fake: Fake, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    server.answers["/home/fake.tar.gz"] = (500, b"", None)
    with pytest.raises(DownloadError, match="500"):
        _load(at(tmp_path), server.release(fake), patience=Patience(retries=2))
    assert len(server.asked) == 3


def test_host_that_does_not_answer_is_named(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1"):
        _load(at(tmp_path), fake.release, patience=ONCE)  # port 9: nobody listens there


def test_what_a_killed_download_left_is_cleared(fake: Fake, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".fake.tar.gz-download").mkdir()
    (tmp_path / ".fake.tar.gz-download" / "tmp123").write_bytes(b"half")
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)
    _load(at(tmp_path), server.release(fake), patience=ONCE)
    assert leftovers(tmp_path) == ["fake.tar.gz"]


def test_folder_that_cannot_be_made_is_named(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written to"):
        _load(at(tmp_path / "file" / "folder"), fake.release, patience=ONCE)


def test_damaged_archive_in_the_folder_is_not_replaced_in_silence(
    fake: Fake, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "fake.tar.gz").write_bytes(fake.archive[:100])
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)
    with pytest.raises(DataCorruptError, match="Delete it"):
        _load(at(tmp_path), server.release(fake), patience=ONCE)
    assert server.asked == []


@pytest.mark.parametrize("seen", [True, False])
def test_progress_is_shown_where_it_is_seen(
    fake: Fake,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seen: bool,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: seen)
    server.answers["/home/fake.tar.gz"] = (200, fake.archive, None)
    _load(at(tmp_path), server.release(fake), patience=ONCE)
    shown = capsys.readouterr()
    assert ("100%" in shown.err) == seen
    assert shown.out == ""


# The real data


@pytest.fixture(scope="module")
def real(real_root: Path) -> ImageData:
    return load_cifar10(real_root, download=False)


@pytest.mark.data
def test_sizes_and_class_counts(real: ImageData) -> None:
    assert real.train_images.shape == (50_000, 3, 32, 32)
    assert real.test_images.shape == (10_000, 3, 32, 32)
    assert real.train_labels.bincount().tolist() == [5_000] * 10
    assert real.test_labels.bincount().tolist() == [1_000] * 10


@pytest.mark.data
def test_mean_and_deviation_are_the_published_ones(real: ImageData) -> None:
    counts = torch.stack(
        [real.train_images[:, c].flatten().bincount(minlength=256) for c in range(3)]
    )
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = shares @ levels
    std = (shares @ levels.square() - mean.square()).sqrt()
    assert mean.tolist() == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=5e-9)
    assert std.tolist() == pytest.approx([0.24703223, 0.24348513, 0.26158784], abs=5e-9)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:dtype")  # torchvision's own unpickling, under numpy 2.4
def test_agrees_with_torchvision(real: ImageData, real_root: Path) -> None:
    from torchvision import datasets

    theirs: Any
    for theirs, images, labels in (
        (datasets.CIFAR10(real_root, train=True), real.train_images, real.train_labels),
        (datasets.CIFAR10(real_root, train=False), real.test_images, real.test_labels),
    ):
        assert np.array_equal(theirs.data, images.permute(0, 2, 3, 1).numpy())
        assert theirs.targets == labels.tolist()
        assert tuple(theirs.classes) == CLASSES


@pytest.mark.data
def test_a_changed_real_file_is_refused(real_root: Path, tmp_path: Path) -> None:
    folder = next(real_root.rglob("data_batch_1")).parent
    for file in CIFAR10.files:
        (tmp_path / file.name).symlink_to(folder / file.name)
    (tmp_path / "batches.meta").unlink()
    content = (folder / "batches.meta").read_bytes().replace(b"airplane", b"aircraft")
    (tmp_path / "batches.meta").write_bytes(content)
    with pytest.raises(DataCorruptError, match=r"batches\.meta has SHA-256"):
        load_cifar10(tmp_path, download=False)


def test_data_that_may_not_be_read_is_told_as_such(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    fake.extract_to(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", shut)  # root may read all
    with pytest.raises(DataNotFoundError, match=r"may not be read: .*Permission denied"):
        _load(at(tmp_path), fake.release, patience=None)


@pytest.mark.parametrize("download", [True, False, None])
def test_where_data_is_loaded_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: bool | None
) -> None:
    asked: dict[str, Any] = {}

    def load(place: Place, release: object, **options: object) -> str:
        asked.update(options, place=place, release=release)
        return "data"

    monkeypatch.setenv("CIFARZOO_DATA", str(tmp_path))
    monkeypatch.setattr("cifarzoo.data.cifar10._load", load)
    found: object = load_cifar10() if download is None else load_cifar10(download=download)
    assert found == "data"
    assert asked["place"] == Place(path=tmp_path, origin="CIFARZOO_DATA")
    assert [other.origin for other in asked["others"]] == ["the user's cache folder"]
    assert asked["release"] is CIFAR10
    assert asked["patience"] == (None if download is False else Patience())
