"""Readers of damaged files return a valid result, or raise an error that names the file.

`nox -s fuzz` searches for ten minutes, a normal test run for a few seconds.
"""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.conftest import Split, planes, write_parquet
from torch import Tensor, nn

from cifarzoo.data import cifar, forms
from cifarzoo.data.content import checked_splits
from cifarzoo.data.forms import Part
from cifarzoo.data.image_file import read_image
from cifarzoo.data.published import Published, content_digest, image_hashes
from cifarzoo.errors import (
    CheckpointError,
    CifarZooError,
    DataCorruptError,
    InvalidValueError,
    RunError,
    WeightsError,
)
from cifarzoo.record import RunRecord, read_record
from cifarzoo.registry import build_model
from cifarzoo.training.checkpoint import Checkpoint
from cifarzoo.validation import from_json
from cifarzoo.weights import PRETRAINED, read_state_dict, save_weights

Edit: TypeAlias = tuple[float, int, bytes]

LENGTHS = st.integers(0, 8) | st.sampled_from([-100, 10**9])  # -100 repeats bytes

RNG = np.random.default_rng(0)
TRAIN = (
    RNG.integers(0, 256, (3, 32, 32, 3), np.uint8),
    np.array([[0, 0], [99, 19], [5, 5]], np.uint8),
)
HUNDRED = replace(
    cifar.CIFAR100,
    hashes={"damaged.cifar100": "md5:0"},
    contents={"train": content_digest(image_hashes(*TRAIN))},
)

EDITS = st.lists(st.tuples(st.floats(0, 1), LENGTHS, st.binary(max_size=8)), min_size=1, max_size=4)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """Replace bytes at some places, each given as a fraction of the length."""
    for where, length, new in edits:
        at = int(where * len(content))
        content = content[:at] + new + content[max(0, at + length) :]
    return content


def edited_member(content: bytes, member: int, edits: list[Edit]) -> bytes:
    """Change one member of a zip file, whose checksum stays correct."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        for i, name in enumerate(before.namelist()):
            one = before.read(name)
            is_chosen = i == member % len(before.namelist())
            after.writestr(name, edited(one, edits) if is_chosen else one)
    return packed.getvalue()


def edited_header(content: bytes, edits: list[Edit]) -> bytes:
    """Change the JSON header of a safetensors file, whose length stays correct."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = edited(content[8:end], edits)
    return len(header).to_bytes(8, "little") + header + content[end:]


def assert_image(pixels: Tensor) -> None:
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 32, 32))


def assert_trained(model: nn.Module) -> None:
    expected = {name: value.shape for name, value in build_model("tiny_s").state_dict().items()}
    state = model.state_dict()
    assert {name: value.shape for name, value in state.items()} == expected
    assert all(value.isfinite().all() for value in state.values())


def assert_state_dict(state: dict[str, Tensor]) -> None:
    assert all(isinstance(name, str) for name in state)
    assert all(isinstance(value, Tensor) for value in state.values())


def assert_payload(payload: dict[str, object]) -> None:
    assert isinstance(payload, dict)


def assert_record(record: RunRecord) -> None:
    text = record.to_json()
    assert from_json(RunRecord, text).to_json() == text
    for score in (record.train, record.val, record.test):
        assert score is None or score.interval[0] <= score.interval[1]


def read_split(read: Callable[[Published, Path], Part], path: Path) -> Split:
    with warnings.catch_warnings(action="ignore"):  # about the order
        return checked_splits(HUNDRED, {"train": [read(HUNDRED, path)]})["train"]


def read_python(data: Published, path: Path) -> Part:
    return forms._decode_python(data, path, path.read_bytes())


def read_binary(data: Published, path: Path) -> Part:
    return forms._decode_binary(data, path, path.read_bytes())


def assert_split(split: Split) -> None:
    assert all(map(np.array_equal, split, TRAIN))


@dataclass(frozen=True)
class Reader:
    """How files with a suffix are read, the error for damaged ones, and what holds for others."""

    read: Callable[[Path], Any]
    error: type[CifarZooError]
    check: Callable[[Any], None]


READERS = {
    ".image": Reader(read_image, InvalidValueError, assert_image),
    ".safetensors": Reader(
        lambda path: build_model("tiny_s", weights=path), WeightsError, assert_trained
    ),
    ".pth": Reader(read_state_dict, WeightsError, assert_state_dict),
    ".checkpoint": Reader(
        lambda path: Checkpoint(path, {"seed": 0}).load(), CheckpointError, assert_payload
    ),
    ".json": Reader(read_record, RunError, assert_record),
    ".cifar100": Reader(partial(read_split, read_python), DataCorruptError, assert_split),
    ".bin": Reader(partial(read_split, read_binary), DataCorruptError, assert_split),
    ".parquet": Reader(partial(read_split, forms._parquet_part), DataCorruptError, assert_split),
}


def image(kind: str, mode: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model("tiny_s")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


@pytest.fixture(scope="module")
def intact(
    model: nn.Module, state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[bytes]]:
    """Intact files by suffix."""
    folder = tmp_path_factory.mktemp("intact")
    save_weights(model, folder / "a.safetensors")
    torch.save(state, folder / "a.pth")
    payload = {"state": state, "step": 3, "history": [{"loss": 0.5}]}
    Checkpoint(folder / "a.checkpoint", {"seed": 0}).save(lambda: payload)
    images, labels = TRAIN
    columns = zip(HUNDRED.labels, labels.T.tolist(), strict=True)
    batch = {b"data": planes(images), **{f"{name}s".encode(): each for name, each in columns}}
    split = {"train": TRAIN, "test": TRAIN}
    parquet = write_parquet(HUNDRED, split, folder / "written") / "train-00000-of-00001.parquet"
    rows = np.concatenate([labels[:, ::-1], planes(images)], axis=1)
    modes = {"PNG": "P", "JPEG": "RGB", "GIF": "P", "BMP": "RGB", "TIFF": "RGB", "WEBP": "RGB"}
    return {
        ".image": [image(kind, mode) for kind, mode in modes.items()] + [image("PNG", "LA")],
        ".cifar100": [pickle.dumps(batch, protocol) for protocol in (2, 4)],
        ".json": [next(iter(sorted(PRETRAINED.glob("*.json")))).read_bytes()],
        ".bin": [rows.tobytes()],
        ".parquet": [parquet.read_bytes()],
        **{path.suffix: [path.read_bytes()] for path in folder.iterdir() if path.is_file()},
    }


@pytest.mark.parametrize("suffix", READERS)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=EDITS, member=st.none() | st.integers(0, 20))
def test_a_damaged_file_is_read_or_named_in_an_error(
    suffix: str, intact: dict[str, list[bytes]], edits: list[Edit], member: int | None
) -> None:
    content = intact[suffix][(member or 0) % len(intact[suffix])]
    if member is None or suffix in (".image", ".json", ".cifar100", ".bin", ".parquet"):
        content = edited(content, edits)
    elif suffix == ".safetensors":
        content = edited_header(content, edits)
    else:
        content = edited_member(content, member, edits)
    reader = READERS[suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged{suffix}"
        path.write_bytes(content)
        try:
            found = reader.read(path)
        except reader.error as raised:
            if path.name not in str(raised):
                pytest.fail(f"{raised} does not name the file")
        else:
            reader.check(found)


def test_intact_files_are_read_exactly(
    model: nn.Module, state: dict[str, Tensor], intact: dict[str, list[bytes]], tmp_path: Path
) -> None:
    found = {}
    for suffix in (".safetensors", ".pth", ".checkpoint", ".json"):
        path = tmp_path / f"intact{suffix}"
        path.write_bytes(intact[suffix][0])
        found[suffix] = READERS[suffix].read(path)
    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    same(found[".safetensors"].state_dict(), model.state_dict())
    same(found[".pth"], state)
    same(found[".checkpoint"]["state"], state)
    stored, read = (json.loads(text) for text in (intact[".json"][0], found[".json"].to_json()))
    assert _contains(read, stored)


def _contains(value: Any, stored: Any) -> bool:  # noqa: ANN401 - JSON
    """Return whether JSON holds what was stored; it may have newer fields as well."""
    if isinstance(stored, dict):
        return all(_contains(value[key], item) for key, item in stored.items())
    if isinstance(stored, list):
        return all(map(_contains, value, stored))
    return bool(value == stored)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deeply_nested_json_is_rejected(tmp_path: Path, opening: bytes) -> None:
    path = tmp_path / "nested.json"
    path.write_bytes(200_000 * opening)
    with pytest.raises(RunError, match=r"nested\.json"):
        read_record(path)
