"""Files from strangers: whatever the bytes, a reader gives what it should, or its own error.

`nox -s fuzz` looks for ten minutes; the test run for seconds. What was found stands as an example.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from cifarzoo.cli.folder import RunFolder
from cifarzoo.cli.outcome import show_figures
from cifarzoo.cli.pictures import read_picture
from cifarzoo.cli.trained import trained
from cifarzoo.data.batches import decode, read_archive, read_folder
from cifarzoo.errors import (
    CheckpointError,
    CifarZooError,
    DataCorruptError,
    OptionError,
    ResultsError,
    WeightsError,
)
from cifarzoo.models.state import read_state_dict
from cifarzoo.registry import build_model
from cifarzoo.report.folder import read_record
from cifarzoo.report.record import Record
from cifarzoo.training.checkpoint import load_checkpoint, save_checkpoint
from cifarzoo.weights import packaged, save_weights

if TYPE_CHECKING:
    from tests.data.conftest import Fake

Edit: TypeAlias = tuple[str, float, bytes]
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EDITS = st.lists(
    st.tuples(
        st.sampled_from(("put", "insert", "cut", "drop", "repeat")),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """Change bytes in some places, each given as a share of the length."""
    for kind, where, new in edits:
        at = int(where * len(content))
        before, after = content[:at], content[at:]
        content = {
            "put": before + new + after[len(new) :],
            "insert": before + new + after,
            "cut": before,
            "drop": before + after[len(new) :],
            "repeat": before + after[: 16 * len(new)] + after,
        }[kind]
    return content


def repacked(content: bytes, member: int, edits: list[Edit]) -> bytes:
    """Change one member of a zip file, and make its checksums right again."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        for i, name in enumerate(before.namelist()):
            one = before.read(name)
            chosen = i == member % len(before.namelist())
            after.writestr(name, edited(one, edits) if chosen else one)
    return packed.getvalue()


@contextlib.contextmanager
def own_error(kind: type[CifarZooError], path: Path) -> Iterator[None]:
    """Let one kind of error pass where it names the file."""
    try:
        yield
    except kind as error:
        if path.name not in str(error):
            raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Images

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def image_of(kind: str, mode: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind)
    return file.getvalue()


IMAGES = tuple(
    image_of(kind, mode)
    for kind, mode in (
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
        ("PPM", "RGB"),
        ("ICO", "RGBA"),
    )
)


@SHARED
@given(image=st.sampled_from(IMAGES), edits=EDITS)
def test_images(folder: Path, image: bytes, edits: list[Edit]) -> None:
    path = folder / "image"
    path.write_bytes(edited(image, edits))
    with own_error(OptionError, path):
        picture = read_picture(path)
        assert picture.pixels.shape == (3, 32, 32)
        assert picture.pixels.dtype == torch.uint8


# Weights and checkpoints


def saved_by(save: Callable[[Path], object], folder: Path, name: str) -> bytes:
    save(folder / name)
    return (folder / name).read_bytes()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model("tiny_s")


@pytest.fixture(scope="module")
def weights(folder: Path, model: nn.Module) -> bytes:
    return saved_by(lambda path: save_weights(model, path), folder, "whole.safetensors")


@SHARED
@given(edits=EDITS, in_header=st.booleans())
def test_weights(folder: Path, weights: bytes, edits: list[Edit], in_header: bool) -> None:
    path = folder / "weights.safetensors"
    # Most of the file is numbers; its structure is in the header.
    end = 8 + int.from_bytes(weights[:8], "little") if in_header else len(weights)
    header = edited(weights[8:end], edits)
    length = len(header).to_bytes(8, "little") if in_header else weights[:8]
    path.write_bytes(length + header + weights[end:])
    with own_error(WeightsError, path):
        found = trained("tiny_s", str(path), "cifar10").model
        assert all(value.isfinite().all() for value in found.state_dict().values())


@pytest.fixture(scope="module")
def pickled(folder: Path) -> bytes:
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
    return saved_by(lambda path: torch.save(state, path), folder, "whole.pth")


@SHARED
@given(member=st.integers(0, 20), edits=EDITS)
def test_state_dicts(folder: Path, pickled: bytes, member: int, edits: list[Edit]) -> None:
    path = folder / "state.pth"
    path.write_bytes(repacked(pickled, member, edits))
    with own_error(WeightsError, path):
        state = read_state_dict(path)
        assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> bytes:
    payload = {"state": nn.Linear(3, 4).state_dict(), "step": 3, "history": [{"loss": 0.5}]}
    return saved_by(
        lambda path: save_checkpoint(path, payload, {"seed": 0}), folder, "whole.checkpoint"
    )


@SHARED
@given(member=st.integers(0, 20), edits=EDITS)
def test_checkpoints(folder: Path, checkpoint: bytes, member: int, edits: list[Edit]) -> None:
    path = folder / "run.checkpoint"
    path.write_bytes(repacked(checkpoint, member, edits))
    with own_error(CheckpointError, path):
        payload = load_checkpoint(path, {"seed": 0})
        assert isinstance(payload, dict)


# Data


@SHARED
@given(edits=EDITS, inside=st.booleans())
def test_archives(folder: Path, fake: Fake, edits: list[Edit], inside: bool) -> None:
    path = folder / "fake.tar.gz"
    if inside:  # of the compression, whose checksum would fail first
        unzipped = edited(gzip.decompress(fake.archive), edits)
        path.write_bytes(gzip.compress(unzipped, compresslevel=1))
    else:
        path.write_bytes(edited(fake.archive, edits))
    with own_error(DataCorruptError, path):
        images = decode(read_archive(path, fake.release), fake.release)
        assert len(images.train_images) == 22  # what does not matter was changed


@SHARED
@given(name=st.integers(0, 6), edits=EDITS)
def test_data_files(folder: Path, fake: Fake, name: int, edits: list[Edit]) -> None:
    extracted = fake.extract_to(folder / "extracted")
    path = extracted / fake.release.files[name].name
    content = path.read_bytes()
    changed = edited(content, edits)
    path.write_bytes(changed)
    if changed == content:
        decode(read_folder(extracted, fake.release), fake.release)
    else:
        with pytest.raises(DataCorruptError, match=path.name):
            decode(read_folder(extracted, fake.release), fake.release)


# Records


@pytest.fixture(scope="module")
def run(folder: Path) -> RunFolder:
    made = RunFolder(path=folder / "run", settings={"model": "m", "data": "shapes", "seed": 0})
    made.begin({})
    made.weights.touch()
    score = {"accuracy": 0.5, "interval": [0.4, 0.6], "loss": 1.0, "n": 10, "tta": "none"}
    history = {"stopped": "epochs", "steps": 6, "seconds": 1.5, "best_step": 6, "checks": []}
    made.finish({"scores": {"test": score, "val": None}, "history": history, "environment": {}})
    return made


@SHARED
@given(edits=EDITS)
@example(edits=[("drop", 0.3203125, b"\x00")])  # "tst" in the place of "test"
def test_records_of_runs(run: RunFolder, edits: list[Edit]) -> None:
    before = run.record.read_bytes()
    run.record.write_bytes(edited(before, edits))
    try:
        with own_error(CheckpointError, run.path):
            record = run.finished()
            if record is not None:
                show_figures(record)
    finally:
        run.record.write_bytes(before)


ROOT = Path(__file__).parents[2]
RECORD = (ROOT / "results" / "baseline-seed0.json").read_bytes()
DESCRIPTION = next(iter(sorted(packaged._FOLDER.glob("resnet20-default.json")))).read_bytes()


@SHARED
@given(edits=EDITS)
def test_records(folder: Path, edits: list[Edit]) -> None:
    path = folder / "baseline-seed0.json"
    path.write_bytes(edited(RECORD, edits))
    with own_error(ResultsError, path):
        assert isinstance(read_record(path), Record)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_records_that_are_nested_without_end(folder: Path, opening: str) -> None:
    path = folder / "baseline-seed0.json"
    path.write_text(opening * 200_000)
    with pytest.raises(ResultsError, match=r"baseline-seed0\.json cannot be read"):
        read_record(path)


@SHARED
@given(edits=EDITS)
def test_descriptions_of_weights(folder: Path, edits: list[Edit]) -> None:
    path = folder / "resnet20-default.json"
    path.write_bytes(edited(DESCRIPTION, edits))
    with own_error(WeightsError, path):
        assert packaged._read(path, "resnet20").tag == "default"


@pytest.mark.parametrize("depth", [100, 200_000])
def test_notes_that_are_nested_without_end(folder: Path, weights: bytes, depth: int) -> None:
    path = folder / "nested.safetensors"
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    header["__metadata__"] = {"cifarzoo": "[" * depth}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + weights[8 + size :])
    assert trained("tiny_s", str(path), None).data == "cifar10"
