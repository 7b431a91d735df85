"""Saved weights load again; damaged, hostile and unsuitable files do not."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo import (
    ModelCard,
    Preprocess,
    Recipe,
    build_model,
    list_models,
    model_card,
    save_weights,
)
from cifarzoo.data import CIFAR100_CLASSES, CLASSES
from cifarzoo.errors import DownloadError, InvalidTypeError, WeightsError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.transfer import BackboneWeights, TransferClassifier, transfer_classifier
from cifarzoo.registry import build_from_card, card_without_weights
from cifarzoo.weights import (
    PRETRAINED,
    count_classes,
    load_state,
    packaged_file,
    read_metadata,
    read_state_dict,
    read_weights,
    sha256_of,
)

METADATA = {"model": "small", "data": "cifar10", "tag": "long"}


def layers(classes: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, classes)
    )


def classifier(num_classes: int = 10) -> ImageClassifier:
    return ImageClassifier(Preprocess(), layers(num_classes))


CARD = ModelCard(
    name="small", family="test", summary="", builder=classifier, recipes={"standard": Recipe()}
)


def load_weights(model: ImageClassifier, weights: str | Path, card: ModelCard) -> None:
    stored = read_weights(model, weights, card, download=False)
    load_state(model, stored.state, source=stored.source)


def assert_equal(model: nn.Module, other: nn.Module) -> None:
    assert model.state_dict().keys() == other.state_dict().keys()
    for name, tensor in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


class Trap:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_saved_weights_load_into_another_model(tmp_path: Path) -> None:
    source = classifier().to(memory_format=torch.channels_last)
    save_weights(source, tmp_path / "new" / "a.safetensors", metadata=METADATA)
    model = classifier()
    load_weights(model, tmp_path / "new" / "a.safetensors", CARD)
    assert_equal(model, source)
    assert read_metadata(tmp_path / "new" / "a.safetensors") == METADATA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def test_class_names_are_saved_and_loaded(tmp_path: Path) -> None:
    source, path = classifier(3), tmp_path / "a.safetensors"
    source.class_names = ("cat", "chien", "犬")
    save_weights(source, path, metadata=METADATA)
    assert read_metadata(path) == METADATA
    assert build_from_card(CARD, path, 3).class_names == ("cat", "chien", "犬")
    save_weights(classifier(), path, metadata=METADATA)
    assert build_from_card(CARD, path, 10).class_names == CLASSES
    for text in ('{"class_names": "abc"}', '{"class_names": [1, 2, 3]}', '{"data": "cifar10"}'):
        save_file(classifier(3).state_dict(), path, {"cifarzoo": text})
        assert build_from_card(CARD, path, 3).class_names is None
    assert build_model("resnet20", weights="default").class_names == CLASSES
    assert build_model("resnet20").class_names is None


class WithExtraState(nn.Linear):
    """Layer with an extra state."""

    extra: object = None

    @override
    def get_extra_state(self) -> Any:
        return self.extra

    @override
    def set_extra_state(self, state: object) -> None:
        self.extra = state


def test_only_tensors_are_saved(tmp_path: Path) -> None:
    path, model = tmp_path / "new" / "a.safetensors", WithExtraState(2, 2)
    model.extra = {"scale": 2}
    with pytest.raises(WeightsError, match=r"the state dict of WithExtraState .* extra state"):
        save_weights(model, path)
    assert not path.parent.exists()
    load_state(model, nn.Linear(2, 2).state_dict(), source="it")
    assert model.extra == {"scale": 2}
    model.extra = torch.tensor([3, 65_535], dtype=torch.uint16)
    save_weights(model, path)
    assert torch.equal(read_state_dict(path)["_extra_state"], model.extra)


def test_large_header_is_refused_unread(tmp_path: Path) -> None:
    entries = {
        f"{i:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(9999)
    }
    header, path = json.dumps(entries).encode(), tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="expected a header of at most"):
        load_weights(classifier(), path, CARD)
    path.write_bytes((10**9).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="expected a header of at most"):
        read_state_dict(path)
    assert read_metadata(path) == {}


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    model = classifier()
    for name in ("a.safetensors", "b.safetensors"):
        save_weights(model, tmp_path / name, metadata=METADATA)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    assert sha256_of(tmp_path / "a.safetensors") == hashlib.sha256(content).hexdigest()


def test_file_has_the_permissions_of_other_new_files(tmp_path: Path) -> None:
    save_weights(classifier(), tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    save_weights(tied, tmp_path / "a.safetensors")
    state = read_state_dict(tmp_path / "a.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])


@pytest.mark.parametrize(("name", "zipped"), [("a.pth", True), ("a.pt", False), ("a.bin", True)])
def test_state_dict_saved_by_torch_loads(tmp_path: Path, name: str, zipped: bool) -> None:
    source, model = classifier(), classifier()
    torch.save(source.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    load_weights(model, str(tmp_path / name), CARD)
    assert_equal(model, source)
    assert read_metadata(tmp_path / name) == {}


def test_half_rounds_only_matrices(tmp_path: Path) -> None:
    source, model = layers(), layers()
    save_weights(source, tmp_path / "a.safetensors", half=True)
    state = read_state_dict(tmp_path / "a.safetensors")
    halves = {name for name, tensor in state.items() if tensor.dtype == torch.float16}
    assert halves == {"0.weight", "3.weight"}
    load_state(model, state, source="a")
    for name, tensor in source.state_dict().items():
        expected = tensor.half().float() if name in halves else tensor
        assert torch.equal(model.state_dict()[name], expected)


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"a{suffix}"
    if suffix == ".safetensors":
        save_weights(layers(), path)
    else:
        torch.save(layers().state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_rejected(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float
) -> None:
    path = written(tmp_path_factory.mktemp("truncated"), suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=path.name):
        read_state_dict(path)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_changed_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    path = written(tmp_path_factory.mktemp("changed"), ".safetensors")
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + int(place * (len(content) - start))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="was changed after it was written"):
        read_state_dict(path)


def test_changed_bit_in_a_torch_file_is_noticed(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((64,), 0.125)}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(b"\x00\x00\x00\x3e" * 8) + 3] ^= 0x40
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("saved_by", ["pickle", "torch"])
def test_code_in_a_file_is_not_executed(tmp_path: Path, suffix: str, saved_by: str) -> None:
    path, bomb = tmp_path / f"a{suffix}", {"weight": Trap(tmp_path / "made")}
    if saved_by == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path)
    with pytest.raises(WeightsError, match=path.name):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()


def test_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as stored,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in stored.namelist():
            packed.writestr(member, stored.read(member))
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "stored",
    [
        {"epoch": 3, "state_dict": {}},
        [torch.zeros(1)],
        torch.zeros(1),
        {"sparse": torch.zeros(3).to_sparse()},
        {"meta": torch.zeros(3, device="meta")},
    ],
    ids=["checkpoint", "list", "tensor", "sparse", "meta"],
)
def test_only_a_state_dict_of_dense_tensors_is_accepted(tmp_path: Path, stored: object) -> None:
    torch.save(stored, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"expected a state dict|holds more than tensors"):
        read_state_dict(tmp_path / "a.pth")


def test_expanded_tensor_does_not_exhaust_memory(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.zeros(1).expand(10**12)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError):
        load_state(layers(), read_state_dict(tmp_path / "a.pth"), source="a.pth")


def test_invalid_metadata_is_ignored(tmp_path: Path) -> None:
    for text in ("no JSON", "[]", '{"model": 3}', "[" * 100_000):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"cifarzoo": text})
        assert read_metadata(tmp_path / "a.safetensors") == {}
        assert [*read_state_dict(tmp_path / "a.safetensors")] == ["a"]


def test_invalid_paths_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    for path in (tmp_path / "missing.pth", tmp_path, tmp_path / "a.onnx"):
        with pytest.raises(WeightsError, match=r"\.safetensors"):
            read_state_dict(path)
    with pytest.raises(WeightsError, match=r"expected the suffix \.safetensors"):
        save_weights(layers(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="cannot write"):
        save_weights(layers(), tmp_path / f"{'a' * 240}.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"3.bias": None}, r"3\.bias is missing$"),
        ({"4.bias": torch.zeros(2)}, r"4\.bias is unexpected$"),
        ({"0.weight": torch.zeros(4)}, r"0\.weight: expected shape \[4, 3, 3, 3\], got \[4\]$"),
        (
            {"1.num_batches_tracked": torch.tensor(1.5)},
            "int64, got torch.float32$",
        ),
        ({"0.bias": torch.zeros(4, dtype=torch.int8)}, "float32, got torch.int8$"),
        ({"0.bias": torch.full((4,), math.nan)}, r"0\.bias contains NaN or infinity$"),
        ({f"{i}.more": torch.zeros(1) for i in range(5)}, r"2\.more is unexpected; and 2 more$"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(
    changes: dict[str, Tensor | None], message: str
) -> None:
    model = layers()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {**layers().state_dict(), **changes}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(WeightsError, match=f"^it does not fit the model: .*{message}"):
        load_state(model, state, source="it")
    torch.testing.assert_close(dict(model.state_dict()), before)


def test_common_mistakes_get_a_hint() -> None:
    own = classifier().state_dict()
    states = {
        r"Remove 'module\.' from its names": {f"module.{name}": own[name] for name in own},
        r"Add 'network\.' to its names": layers().state_dict(),
        "Try num_classes=100": classifier(100).state_dict(),
        "and 7 more": {},
    }
    for hint, state in states.items():
        with pytest.raises(WeightsError, match=f"{hint}$"):
            load_state(classifier(), state, source="it")


def test_number_of_classes_is_that_of_the_weights(tmp_path: Path) -> None:
    source, path = classifier(100), tmp_path / "a.safetensors"
    save_weights(source, path, metadata={"data": "cifar100"})
    for num_classes in (None, 100):
        model = build_from_card(CARD, path, num_classes)
        assert_equal(model, source)
        assert model.class_names == CIFAR100_CLASSES
    for num_classes in (10, 20):
        with pytest.raises(WeightsError, match=r"Try num_classes=100$"):
            build_from_card(CARD, path, num_classes)
    for state in (
        {**source.state_dict(), "network.3.weight": torch.zeros(100, 63)},
        {**source.state_dict(), "network.0.weight": torch.zeros(5, 3, 3, 3)},
        {**source.state_dict(), "network.3.weight": torch.zeros(0, 64)},
    ):
        save_file(state, path)
        with pytest.raises(WeightsError, match=r"a\.safetensors does not fit the model"):
            build_from_card(CARD, path)


@pytest.mark.parametrize("name", list_models())
def test_number_of_classes_of_every_model_is_found(name: str) -> None:
    card = card_without_weights(name)
    with torch.device("meta"):
        own, other = (card.builder(n).state_dict() for n in (10, 100))
    assert count_classes(own, other) == 100
    assert count_classes(other, own) == 10
    assert count_classes(own, own) is None


def test_counters_of_batch_norms_may_be_missing() -> None:
    state = {k: v for k, v in layers().state_dict().items() if "num_batches_tracked" not in k}
    layers().load_state_dict(state)
    load_state(layers(), state, source="it")


@pytest.mark.parametrize(("value", "half"), [(math.nan, False), (math.inf, False), (1e5, True)])
def test_non_finite_weights_are_not_written(tmp_path: Path, value: float, half: bool) -> None:
    path, model = tmp_path / "a.safetensors", layers()
    save_weights(model, path)
    before = path.read_bytes()
    with torch.no_grad():
        model.get_parameter("3.weight")[0, 0] = value
    with pytest.raises(WeightsError, match=r"3\.weight contains NaN or infinity.* not written"):
        save_weights(model, path, half=half)
    assert path.read_bytes() == before


def test_default_weights_are_the_most_accurate_ones() -> None:
    long, standard = model_card("resnet20").weights
    assert long.accuracy > standard.accuracy
    default, best = (build_model("resnet20", weights=tag) for tag in ("default", "long"))
    assert_equal(default, best)


def test_unknown_tag_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"default, long, standard.* did you mean 'standard'"):
        build_model("resnet20", weights="standart")
    with pytest.raises(WeightsError, match=r"weights is 'default': .* \(none in the package\)"):
        build_model("vgg16_bn", weights="default")
    with pytest.raises(InvalidTypeError, match="weights is True"):
        build_model("resnet20", weights=True)  # type: ignore[arg-type]


def test_changed_packaged_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for original in PRETRAINED.glob("resnet20-*"):
        shutil.copy(original, tmp_path)
    monkeypatch.setattr("cifarzoo.weights.PRETRAINED", tmp_path)
    path = packaged_file("resnet20", "long")
    content = path.read_bytes()
    for other in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(other)
        with pytest.raises(WeightsError, match="expected SHA-256"):
            build_model("resnet20", weights="long")
    build_model("resnet20", weights="standard")
    path.unlink()
    with pytest.raises(WeightsError, match="reinstall cifarzoo"):
        build_model("resnet20", weights="long")
    build_model("resnet20")


def transfer(published: tuple[BackboneWeights, ...] = ()) -> TransferClassifier:
    return transfer_classifier(
        layers(1000), preprocess=Preprocess(), trainable=("3",), head="3", published=published
    )


def test_transfer_model_loads_a_backbone_without_its_head(tmp_path: Path) -> None:
    backbone, model = layers(1000), transfer()
    head = model.state_dict()["network.3.weight"].clone()
    torch.save(backbone.state_dict(), tmp_path / "b.pth")
    load_weights(model, tmp_path / "b.pth", CARD)
    state = model.state_dict()
    assert torch.equal(state["network.0.weight"], backbone.state_dict()["0.weight"])
    assert torch.equal(state["network.3.weight"], head)
    save_weights(model, tmp_path / "whole.safetensors")
    other = transfer()
    load_weights(other, tmp_path / "whole.safetensors", CARD)
    assert_equal(other, model)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackboneWeights:
    """Published weights whose file is in torch's cache."""
    path = tmp_path / "checkpoints" / "backbone.pth"
    path.parent.mkdir()
    torch.save(layers(1000).state_dict(), path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url, size = "http://127.0.0.1:9/folder/backbone.pth", path.stat().st_size
    return BackboneWeights(tag="imagenet", url=url, sha256=sha256_of(path), size_bytes=size)


def test_published_backbone_is_read_from_the_cache_and_verified(
    published: BackboneWeights, tmp_path: Path
) -> None:
    model = transfer((published,))
    load_weights(model, "imagenet", CARD)
    path = tmp_path / "checkpoints" / "backbone.pth"
    expected = read_state_dict(path)["0.weight"]
    assert torch.equal(model.state_dict()["network.0.weight"], expected)
    with pytest.raises(WeightsError, match="expected SHA-256"):
        load_weights(transfer((replace(published, sha256="0" * 64),)), "imagenet", CARD)
    with pytest.raises(WeightsError, match=r"a tag of small \(imagenet\)"):
        load_weights(model, "default", CARD)


@pytest.mark.parametrize("download", [True, False])
def test_error_of_a_failed_download_names_the_folder(
    published: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    monkeypatch.setattr("cifarzoo.weights.download_file", lambda *_, **__: ["it: no route"])
    (tmp_path / "checkpoints" / "backbone.pth").unlink()
    with pytest.raises(DownloadError, match=f"{re.escape(str(tmp_path))}.*TORCH_HOME") as caught:
        read_weights(transfer((published,)), "imagenet", CARD, download=download)
    assert ("no route" in str(caught.value)) == download
