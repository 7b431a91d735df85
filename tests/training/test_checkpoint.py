from __future__ import annotations

import io
import os
import pickle
import random
import signal
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from cifarzoo import CheckpointError
from cifarzoo.training.checkpoint import FORMAT, Payload, load_checkpoint, save_checkpoint

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
    assert str(caught.value).startswith(f"{path} belongs to another run (")
    assert "another path" in str(caught.value)
    assert "more" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"processes": 2}, "start as many as before (torchrun --nproc-per-node), give another"),
        (
            {"precision": "bfloat16"},
            "go on in precision='float32' (--precision), give another",
        ),
        ({"precision": "bfloat16", "processes": 2}, "now); give another path"),
    ],
)
def test_what_the_next_command_can_mend_is_said(
    path: Path, changes: dict[str, object], told: str
) -> None:
    save_checkpoint(path, PAYLOAD, {**IDENTITY, "precision": "float32", "processes": 1})
    with pytest.raises(CheckpointError, match="belongs to another run") as caught:
        load_checkpoint(path, {**IDENTITY, "precision": "float32", "processes": 1, **changes})
    assert told in str(caught.value)


@pytest.mark.parametrize(("differing", "told"), [(4, ""), (5, "; and 1 more"), (7, "; and 3 more")])
def test_of_many_differences_four_are_named(path: Path, differing: int, told: str) -> None:
    others = {f"z{i}": i for i in range(differing)}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, {**IDENTITY, **others})
    named, _, rest = str(caught.value).partition("z3: None in the file, 3 now")
    assert named.count(" in the file") == 3
    assert rest.startswith(f"{told}); give another path")


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
    torch.save({"format": FORMAT + 1, "identity": IDENTITY, "payload": {}}, path)
    with pytest.raises(CheckpointError, match=f"format {FORMAT + 1}; .* reads {FORMAT}"):
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

    def half(value: object, file: IO[bytes]) -> None:
        file.write(b"half")
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

    def garbled(value: object, file: IO[bytes]) -> None:
        buffer = io.BytesIO()
        save(value, buffer)
        content = bytearray(buffer.getvalue())
        content[content.index(b"data/0") + 200] ^= 1
        file.write(content)

    monkeypatch.setattr(torch, "save", garbled)
    with pytest.raises(CheckpointError, match=r"was changed.*is intact"):
        save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


def test_a_state_that_is_more_than_tensors_leaves_the_one_before(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"could not be read again.*get_extra_state"):
        save_checkpoint(
            path, {**PAYLOAD, "step": 8, "model": {"_extra_state": Bomb(path)}}, IDENTITY
        )
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


def _as_a_child(action: Callable[[], object]) -> str:
    """Do something in a process of its own, which may lose rights; give the error's words."""
    read, write = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # torch has threads, which the child lacks
        child = os.fork()
    if child == 0:
        try:
            action()
            told = "no error"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.mark.skipif(os.name != "posix", reason="needs fork and limits")
@pytest.mark.parametrize("limit", [0, 100, 1000, 2000])
def test_a_disk_that_is_full_is_named_and_leaves_the_one_before(path: Path, limit: int) -> None:
    import resource

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)

    told = _as_a_child(save)
    assert told.startswith("CheckpointError: cannot write the checkpoint")
    assert "File too large" in told
    assert _load(path)["step"] == 7
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs fork and users")
def test_a_folder_that_cannot_be_written_is_named_and_leaves_the_one_before() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's are shut for others
        path = Path(folder, "run.pt")
        save_checkpoint(path, PAYLOAD, IDENTITY)
        Path(folder).chmod(0o555)
        path.chmod(0o444)

        def save() -> None:
            if not os.geteuid():
                os.setuid(65534)  # root may write everywhere
            save_checkpoint(path, {**PAYLOAD, "step": 8}, IDENTITY)

        told = _as_a_child(save)
        assert told.startswith("CheckpointError: cannot write the checkpoint")
        assert "Permission denied" in told
        assert _load(path)["step"] == 7
        Path(folder).chmod(0o755)


def test_a_compressed_file_is_not_unpacked(path: Path) -> None:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(path) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    path.write_bytes(packed.getvalue())
    with pytest.raises(CheckpointError, match="compressed, which torch's files are not"):
        _load(path)


@pytest.mark.parametrize(
    "identity", [{"seed": torch.zeros(2)}, {1: 2}, {"seed": [1]}, {"seed": {"a": 1}}]
)
def test_an_identity_of_another_kind_is_refused(path: Path, identity: dict[Any, Any]) -> None:
    torch.save({"format": 1, "identity": identity, "payload": {}}, path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        _load(path)


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


def test_a_file_that_may_not_be_read_is_told_as_such(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", shut)  # root may read all
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); mend"):
        load_checkpoint(path, IDENTITY)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no /dev/null")
def test_what_is_no_regular_file_is_told_as_such() -> None:
    with pytest.raises(CheckpointError, match="/dev/null is no regular file; give the path"):
        load_checkpoint(Path("/dev/null"), IDENTITY)


@pytest.mark.parametrize(("others", "told"), [({}, True), ({"seed": 1}, False)])
def test_another_number_of_processes_says_how_to_go_on(
    tmp_path: Path, others: Payload, told: bool
) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, PAYLOAD, {**IDENTITY, "processes": 2})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, {**IDENTITY, "processes": 1, **others})
    assert ("start as many as before (torchrun --nproc-per-node)" in str(caught.value)) is told
    assert "give another path, or delete it" in str(caught.value)


def test_parts_of_a_recipe_that_an_older_file_names_as_none_are_none(path: Path) -> None:
    save_checkpoint(path, {"step": 3}, {**IDENTITY, "recipe.mixing": "None"})
    assert load_checkpoint(path, IDENTITY) == {"step": 3}
