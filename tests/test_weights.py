from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifarzoo import build_model, list_models, model_card, train
from cifarzoo.errors import DownloadError, OptionError, WeightsError
from cifarzoo.models.backbone import BackboneWeights, TransferClassifier, transfer_classifier
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.spec import ModelCard, Recipe, Weights
from cifarzoo.weights import (
    download_backbone,
    load_weights,
    packaged_file,
    packaged_weights,
    save_weights,
    verify,
    write_description,
)
from cifarzoo.weights import packaged as packaged_module
from cifarzoo.weights.notes import notes_on


def layers(classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, classes)
    )


def plain(num_classes: int = 10) -> ImageClassifier:
    return ImageClassifier(Preprocess((0.5,) * 3, (0.25,) * 3), layers(num_classes))


def transfer(
    num_classes: int = 10, *, published: tuple[BackboneWeights, ...] = ()
) -> TransferClassifier:
    return transfer_classifier(
        layers(1000),
        preprocess=Preprocess(),
        trainable=("3",),
        head="3",
        published=published,
    )


pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

CARD = ModelCard(
    name="small", family="test", summary="", builder=plain, recipe=Recipe(), paper="none"
)


def entry(path: Path, tag: str = "median") -> Weights:
    content = path.read_bytes()
    return Weights(
        tag=tag,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        accuracy=0.5,
        interval=(0.49, 0.51),
        mean=0.5,
        std=None,
        seeds=(0,),
        seed=0,
        recipe=Recipe(),
        seconds=1.0,
        machine="A Processor",
    )


def assert_same(model: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()))


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelCard, ImageClassifier]:
    """A card with weights that come with the package, and the model they are of."""
    monkeypatch.setattr(packaged_module, "_FOLDER", tmp_path)
    model = plain()
    save_weights(model, tmp_path / "small-median.safetensors")
    return replace(CARD, weights=(entry(tmp_path / "small-median.safetensors"),)), model


def test_none_leaves_the_model_as_it_is() -> None:
    model = plain()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, None, CARD)
    torch.testing.assert_close(dict(model.state_dict()), before)


def test_packaged_weights_load(packaged: tuple[ModelCard, ImageClassifier]) -> None:
    card, source = packaged
    model = plain()
    load_weights(model, "median", card)
    assert_same(model, source)


def test_default_is_the_tag_or_else_the_cards_first(
    packaged: tuple[ModelCard, ImageClassifier],
) -> None:
    card, source = packaged
    model = plain()
    load_weights(model, "default", card)
    assert_same(model, source)
    (median,) = card.weights
    own = replace(median, tag="default")
    both = replace(card, weights=(own, median))
    assert both.weights_for("default") is own
    assert both.weights_for("median") is median
    assert both.weights_for("long") is None
    message = r"no weights 'best'; allowed: one of its tags \(median\), the path"
    with pytest.raises(WeightsError, match=message):
        load_weights(plain(), "best", card)


def test_a_folder_of_a_tags_name_is_not_taken_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="small has no weights 'long'; allowed"):
        load_weights(plain(), "long", CARD)


def test_changed_packaged_weights_are_refused(
    packaged: tuple[ModelCard, ImageClassifier], tmp_path: Path
) -> None:
    card, _ = packaged
    path = tmp_path / "small-median.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"SHA-256 .*, expected .*: its content was changed"):
        load_weights(plain(), "median", card)
    path.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=r"bytes, expected .*: truncated"):
        load_weights(plain(), "median", card)
    path.unlink()
    with pytest.raises(WeightsError, match="a part of the package, is missing; install cifarzoo"):
        load_weights(plain(), "median", card)


def test_packaged_weights_whose_description_is_gone_are_no_others(
    packaged: tuple[ModelCard, ImageClassifier],
) -> None:
    card, _ = packaged
    packaged_file("small", "default").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"small-default.json, a part of the package, is miss"):
        load_weights(plain(), "default", card)
    load_weights(plain(), "median", card)
    packaged_file("small", "default").rename(packaged_file("small", "other"))
    for tag in ("default", "other"):
        with pytest.raises(WeightsError, match=r"small-other.json, .* give its command again"):
            load_weights(plain(), tag, card)
    load_weights(plain(), "median", card)


@pytest.mark.parametrize("weights", [True, 1, b"default"])
def test_what_is_neither_tag_nor_path_is_refused(
    packaged: tuple[ModelCard, ImageClassifier], weights: object
) -> None:
    with pytest.raises(OptionError, match=r"weights is .*None, a tag \('median'\), or the path"):
        load_weights(plain(), weights, packaged[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("default", r"package has no weights 'default' of small, only the recipe; allowed: the pa"),
        ("best", r"small has no weights 'best'; allowed: the path .* `cifarzoo train small`"),
        ("long", r"no weights 'long' of small, .* `cifarzoo train small --tag long`"),
    ],
)
def test_a_card_without_weights_says_so(tag: str, message: str) -> None:
    card = replace(CARD, more_recipes=(("long", CARD.recipe),))
    with pytest.raises(WeightsError, match=message):
        load_weights(plain(), tag, card)


def test_an_unknown_tag_gets_the_closest(packaged: tuple[ModelCard, ImageClassifier]) -> None:
    with pytest.raises(
        WeightsError, match=r"no weights 'mediam'; did you mean 'median'\? .* \(median\)"
    ):
        load_weights(plain(), "mediam", packaged[0])


def test_a_path_loads_what_was_saved(tmp_path: Path) -> None:
    for build in (plain, transfer):
        source, model = build(), build()
        save_weights(source, tmp_path / "mine.safetensors")
        load_weights(model, tmp_path / "mine.safetensors", CARD)
        assert_same(model, source)
    with pytest.raises(WeightsError, match=r"lost\.safetensors does not exist"):
        load_weights(plain(), "lost.safetensors", CARD)


def test_a_users_file_that_lacks_a_tensor_does_not_fit(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, model = tmp_path / "mine.safetensors", plain()
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    name = next(key for key in state if key.endswith("bias"))
    save_file({key: value for key, value in state.items() if key != name}, path)
    with pytest.raises(WeightsError, match=rf"mine\.safetensors does not fit .*: missing {name}"):
        load_weights(model, path, CARD)
    assert torch.equal(model.state_dict()[name], state[name])


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    save_weights(plain(100), tmp_path / "mine.safetensors")
    with pytest.raises(
        WeightsError,
        match=r"network.3.weight has shape \(100, 64\), needed is \(10.*number of classes: build",
    ):
        load_weights(plain(), str(tmp_path / "mine.safetensors"), CARD)


@pytest.mark.parametrize("name", ["backbone.pth", "backbone.safetensors"])
def test_a_transfer_model_takes_a_backbones_file(tmp_path: Path, name: str) -> None:
    backbone, model = layers(1000), transfer()
    if name.endswith(".pth"):
        torch.save(backbone.state_dict(), tmp_path / name)
    else:
        save_weights(backbone, tmp_path / name)
    load_weights(model, tmp_path / name, CARD)
    torch.testing.assert_close(
        dict(model.network.get_submodule("0").state_dict()), dict(backbone[0].state_dict())
    )
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_weights(plain(), tmp_path / name, CARD)


def test_verify_takes_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    verify(path, sha256=digest)
    verify(path, sha256=digest, size_bytes=7)
    with pytest.raises(WeightsError, match="7 bytes, expected 6: another file"):
        verify(path, sha256=digest, size_bytes=6)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine: its address, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()
    gc.collect()  # a failed download leaves its socket to the garbage collector


@pytest.fixture
def published(
    host: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[BackboneWeights, nn.Sequential]:
    """Weights of a backbone that can be downloaded, and the backbone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    backbone = layers(1000)
    path = host[1] / "backbone-1.pth"
    torch.save(backbone.state_dict(), path)
    record = entry(path)
    weights = BackboneWeights(
        tag="elsewhere",
        url=f"{host[0]}/backbone-1.pth",
        sha256=record.sha256,
        size_bytes=record.size_bytes,
    )
    return weights, backbone


def test_a_published_backbone_is_downloaded_once(
    published: tuple[BackboneWeights, nn.Sequential], host: tuple[str, Path], tmp_path: Path
) -> None:
    weights, backbone = published
    model = transfer(published=(weights,))
    load_weights(model, "elsewhere", CARD)
    torch.testing.assert_close(
        dict(model.network.get_submodule("1").state_dict()), dict(backbone[1].state_dict())
    )
    (host[1] / "backbone-1.pth").unlink()
    path = tmp_path / "cache" / "hub" / "checkpoints" / "backbone-1.pth"
    assert download_backbone(weights) == path


def test_what_must_not_be_downloaded_is_not(
    published: tuple[BackboneWeights, nn.Sequential], host: tuple[str, Path], tmp_path: Path
) -> None:
    weights, _ = published
    model = transfer(published=(weights,))
    message = (
        r"backbone-1\.pth is not there, and is not to be downloaded\.\nWays out:\n .*checkpoints"
    )
    with pytest.raises(DownloadError, match=message):
        load_weights(model, "elsewhere", CARD, download=False)
    assert not (tmp_path / "cache").exists()
    load_weights(model, "elsewhere", CARD)
    (host[1] / "backbone-1.pth").unlink()
    load_weights(model, "elsewhere", CARD, download=False)  # it is there now


def test_a_swapped_download_is_refused_and_not_kept(
    published: tuple[BackboneWeights, nn.Sequential], host: tuple[str, Path], tmp_path: Path
) -> None:
    (host[1] / "backbone-1.pth").write_bytes(b"something else")
    with pytest.raises(
        DownloadError, match=r"could not be downloaded:\n.*: received 14 bytes[\s\S]*pass its path"
    ):
        download_backbone(published[0])
    assert not list((tmp_path / "cache").rglob("backbone*"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/backbone-1.pth", "404"])
def test_a_host_out_of_reach_gets_an_error_with_the_ways_out(
    published: tuple[BackboneWeights, nn.Sequential], address: str, tmp_path: Path
) -> None:
    weights, _ = published
    url = weights.url.replace("-1", "-2") if address == "404" else address
    with pytest.raises(DownloadError) as caught:
        download_backbone(replace(weights, url=url))
    message = str(caught.value)
    assert url in message
    assert str(tmp_path / "cache" / "hub" / "checkpoints") in message
    assert "TORCH_HOME" in message
    assert "weights=" in message


def test_a_damaged_file_in_the_cache_is_refused(
    published: tuple[BackboneWeights, nn.Sequential], tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "hub" / "checkpoints" / "backbone-1.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match="truncated; delete it and get it anew"):
        download_backbone(published[0])


def test_a_backbones_tag_is_listed(published: tuple[BackboneWeights, nn.Sequential]) -> None:
    model = transfer(published=(published[0],))
    with pytest.raises(WeightsError, match=r"no weights 'imagenet'.*\(elsewhere\)"):
        load_weights(model, "imagenet", CARD)


NAME = "report_baseline"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the package's weights, with two files of one model and one of another."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(packaged_module, "_FOLDER", folder)
    for name, tag in ((NAME, "default"), (NAME, "alone"), ("report_best", "default")):
        path = packaged_file(name, tag)
        save_weights(build_model(name), path, matrices=torch.float16)
        write_description(name, entry(path, tag))
    return folder


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_card_has_the_weights_that_lie_in_the_folder(shipped: Path) -> None:
    tags = [weights.tag for weights in model_card(NAME).weights]
    assert tags == ["default", "alone"]
    assert model_card(NAME) is model_card(NAME)
    assert model_card(NAME).weights[0] == entry(packaged_file(NAME, "default"), "default")
    assert not model_card("report_model1").weights
    state = read_file(packaged_file(NAME, "alone"))
    loaded = build_model(NAME, weights="alone").state_dict()
    assert all(torch.equal(loaded[name], state[name].to(loaded[name].dtype)) for name in state)


def read_file(path: Path) -> dict[str, torch.Tensor]:
    from cifarzoo.weights import read_state_dict

    return read_state_dict(path)


def test_shipped_weights_are_in_half_precision_but_not_statistics(shipped: Path) -> None:
    kinds = {name: t.dtype for name, t in read_file(packaged_file(NAME, "default")).items()}
    assert kinds["preprocess.mean"] == torch.float32
    halves = [name for name, kind in kinds.items() if kind == torch.float16]
    assert halves
    assert all(name.endswith("weight") for name in halves)
    model = build_model(NAME, weights="default")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "report_best"}, "it describes the weights 'default' of 'report_best'"),
        ({"tag": "alone"}, f"it describes the weights 'alone' of '{NAME}'"),
        ({"tag": "../default"}, "tag is '../default'; allowed: lower-case"),
        ({"schema": 2}, "it has schema 2; this version of cifarzoo reads 1"),
        ({"sha256": "0"}, "64 lower-case hex digits"),
        ({"size_bytes": "12"}, "Expected `int`, got `str`"),
        ({"accuracy": 1.5}, "accuracy is 1.5; allowed: 0 to 1"),
        ({"accuracy": None}, "Expected `float`, got `null`"),
        ({"recipe": {"epochs": 0}}, "epochs is 0"),
        ({"surprise": 1}, "it has the unknown 'surprise'"),
    ],
)
def test_damaged_description_is_named(
    shipped: Path, changes: dict[str, object], message: str
) -> None:
    path = shipped / f"{NAME}-default.json"
    change(path, **changes)
    with pytest.raises(WeightsError) as caught:
        model_card(NAME)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"1", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000]
)
def test_what_is_no_description_is_refused(shipped: Path, content: bytes) -> None:
    path = shipped / f"{NAME}-default.json"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as the description of weights"):
        model_card(NAME)


@pytest.mark.parametrize("key", ["sha256", "accuracy", "seeds", "recipe", "machine", "model"])
def test_missing_key_is_refused(shipped: Path, key: str) -> None:
    path = shipped / f"{NAME}-default.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="cannot be read as the description"):
        model_card(NAME)


def test_damaged_description_is_in_nobodys_way_who_needs_no_weights(
    shipped: Path,
    loaders: Any,  # noqa: ANN401 - see tests/conftest.py
) -> None:
    (shipped / f"{NAME}-default.json").write_text("{")
    assert NAME in list_models(max_params=10**9)
    build_model(NAME)
    recipe = Recipe(epochs=1, batch_size=8)
    train(NAME, data=loaders, recipe=recipe, device="cpu", progress=False)
    with pytest.raises(WeightsError):
        build_model(NAME, weights="default")


def test_flipped_byte_or_lost_end_is_noticed(shipped: Path) -> None:
    path = packaged_file(NAME, "default")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="its content was changed; install cifarzoo anew, or"):
        build_model(NAME, weights="default")
    path.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="truncated"):
        build_model(NAME, weights="default")


def test_missing_tensor_is_named(shipped: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = read_file(packaged_file(NAME, "default"))
    name = next(name for name in state if name.endswith("weight"))
    del state[name]
    path = packaged_file(NAME, "short")
    save_file(state, path)
    write_description(NAME, entry(path, "short"))
    with pytest.raises(WeightsError, match=rf"does not fit the model: missing {name}"):
        build_model(NAME, weights="short")


def test_weights_of_another_model_do_not_fit(shipped: Path) -> None:
    path = packaged_file(NAME, "other")
    shutil.copy(packaged_file("report_best", "default"), path)
    write_description(NAME, entry(path, "other"))
    with pytest.raises(WeightsError, match="does not fit the model"):
        build_model(NAME, weights="other")


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_pickle_by_another_name_is_not_executed(shipped: Path, tmp_path: Path) -> None:
    path = packaged_file(NAME, "default")
    path.write_bytes(pickle.dumps({"weight": Trap(tmp_path / "canary")}))
    write_description(NAME, entry(path, "default"))  # even with the right hash
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        build_model(NAME, weights="default")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("tag", ["../x", "a/b", "..", "", "A", "a-b", "x\n"])
def test_tag_cannot_lead_out_of_the_folder(shipped: Path, tag: str) -> None:
    with pytest.raises(OptionError, match="tag is"):
        packaged_file(NAME, tag)
    with pytest.raises(WeightsError):
        build_model(NAME, weights=tag)


def test_every_file_that_ships_is_whole() -> None:
    for name in list_models():
        for weights in model_card(name).weights:
            path = packaged_file(name, weights.tag)
            verify(path, sha256=weights.sha256, size_bytes=weights.size_bytes)
            build_model(name, weights=weights.tag)
    known = {f"{name}-{w.tag}" for name in list_models() for w in packaged_weights(name)}
    folder = packaged_module.packaged_folder()
    files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
    assert {path.stem for path in files} == known
    assert len(files) == 2 * len(known)


def test_file_of_another_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(plain(), path, metadata=notes_on(model="report_model2", data="cifar10"))
    with pytest.raises(
        WeightsError, match=r"holds weights of report_model2, not of tiny_s.*missing"
    ):
        build_model("tiny_s", weights=path)
    load_weights(plain(), path, CARD)  # what fits may have another name


def test_folder_is_refused_with_the_file_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_weights(plain(), Path("run", "weights.safetensors"))
    with pytest.raises(
        WeightsError, match=r"no weights 'run'; .* in it is run/weights.safetensors"
    ):
        load_weights(plain(), "run", CARD)
    with pytest.raises(WeightsError, match=r"is a folder; did you mean run/weights.safetensors\?"):
        load_weights(plain(), Path("run"), CARD)
