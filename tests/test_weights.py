from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from cifarzoo import weights as weights_module
from cifarzoo.errors import DownloadError, WeightsError
from cifarzoo.models.backbone import BackboneWeights, TransferClassifier, transfer_classifier
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.spec import ModelCard, Recipe, Weights
from cifarzoo.weights import download_backbone, load_weights, save_weights, verify


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
        accuracy_std=None,
        seeds=(0,),
        recipe=Recipe(),
    )


def assert_same(model: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()))


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelCard, ImageClassifier]:
    """A card with weights that come with the package, and the model they are of."""
    monkeypatch.setattr(weights_module, "_FOLDER", tmp_path)
    model = plain()
    save_weights(model, tmp_path / "small-median.safetensors")
    return replace(CARD, weights=(entry(tmp_path / "small-median.safetensors"),)), model


def test_none_leaves_the_model_as_it_is() -> None:
    model = plain()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, None, CARD)
    torch.testing.assert_close(dict(model.state_dict()), before)


@pytest.mark.parametrize("tag", ["default", "median"])
def test_packaged_weights_load(packaged: tuple[ModelCard, ImageClassifier], tag: str) -> None:
    card, source = packaged
    model = plain()
    load_weights(model, tag, card)
    assert_same(model, source)


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
        load_weights(plain(), "default", card)
    path.unlink()
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(plain(), "default", card)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("default", r"no trained weights of small come with the package; allowed: the path of"),
        ("best", r"small has no weights 'best'; allowed: the path .* `cifarzoo train small`"),
    ],
)
def test_a_card_without_weights_says_so(tag: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_weights(plain(), tag, CARD)


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


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    save_weights(plain(100), tmp_path / "mine.safetensors")
    with pytest.raises(
        WeightsError, match=r"network.3.weight has shape \(100, 64\), needed is \(10"
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


def test_a_swapped_download_is_refused_and_not_kept(
    published: tuple[BackboneWeights, nn.Sequential], host: tuple[str, Path], tmp_path: Path
) -> None:
    (host[1] / "backbone-1.pth").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"could not be downloaded: .*[\s\S]*pass its path"):
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
