"""Models go to a folder or a hub and come back with the same logits, in evaluation mode."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo import ImageClassifier, build_model, registry
from cifarzoo.errors import (
    CifarZooError,
    DownloadError,
    InvalidTypeError,
    InvalidValueError,
    MissingExtraError,
    WeightsError,
)

IMAGES = torch.arange(4 * 3 * 32 * 32).square().remainder(251).to(torch.uint8).view(4, 3, 32, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model of the package."""
    build_model("tiny_s", weights="default").save_pretrained(tmp_path / "new" / "model")
    return tmp_path / "new" / "model"


def test_folder_gives_the_logits_of_build_model(tmp_path: Path) -> None:
    model = build_model("resnet20", weights="default")
    model.train().save_pretrained(tmp_path)
    loaded = ImageClassifier.from_pretrained(tmp_path)
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(IMAGES), model.eval()(IMAGES))
    assert (loaded.name, loaded.class_names) == ("resnet20", model.class_names)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["name"], config["num_classes"]) == ("resnet20", 10)
    files = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_number_of_classes_and_their_names_are_kept(tmp_path: Path) -> None:
    model = build_model("tiny_s", num_classes=3)
    model.class_names = ("cat", "chien", "犬")
    model.save_pretrained(tmp_path)
    loaded = ImageClassifier.from_pretrained(str(tmp_path))
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert loaded.class_names == model.class_names


def test_model_card_reports_the_packaged_weights(folder: Path) -> None:
    weights = zoo.model_card("tiny_s").weights[0]
    card = ModelCard.load(folder / "README.md")
    results = card.data.eval_results
    assert results
    assert [each.metric_value for each in results] == [weights.accuracy, weights.tta_accuracy]
    assert {(each.dataset_type, each.dataset_split) for each in results} == {
        ("uoft-cs/cifar10", "test")
    }
    assert (card.data.library_name, card.data.license) == ("cifarzoo", "mit")
    assert card.data.pipeline_tag == "image-classification"
    low, high = weights.interval
    for fact in (f"{low:.2%} to {high:.2%}", "42,230", "not for decisions", "airplane", "muon"):
        assert fact in card.text


def test_model_card_claims_nothing_for_changed_weights(tmp_path: Path) -> None:
    model = build_model("tiny_s", weights="default")
    with torch.no_grad():
        model.get_parameter("network.head.linear.bias")[3] += 1e-6
    model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results is None
    assert card.data.license is None
    assert "No test score is recorded" in card.text


def test_model_card_reports_a_run(tmp_path: Path) -> None:
    recipe = zoo.Recipe(epochs=1, batch_size=8)
    run = zoo.train("tiny_s", data="shapes", limit=40, recipe=recipe, progress=False)
    run.model.save_pretrained(tmp_path, run=run)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results
    assert card.data.eval_results[0].metric_value == run.test.accuracy
    assert card.data.eval_results[0].dataset_type == "shapes"
    assert "first 40 training images of shapes" in card.text
    loaded = ImageClassifier.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(IMAGES), run.model(IMAGES))
    with pytest.raises(InvalidValueError, match="'tiny_s': expected one that trained 'tiny_m'"):
        build_model("tiny_m").save_pretrained(tmp_path, run=run)


def test_model_card_that_exists_is_kept(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    build_model("tiny_s").save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_own_model_needs_a_registered_card(
    tmp_path: Path, model: ImageClassifier, make_model: Callable[..., ImageClassifier]
) -> None:
    with pytest.raises(InvalidValueError, match=r"no name.*register"):
        model.save_pretrained(tmp_path)
    card = zoo.ModelCard(
        name="own_net",
        family="own",
        summary="My network.",
        builder=lambda n: make_model(num_classes=n),
        recipes={"standard": zoo.Recipe()},
    )
    own = registry.build_from_card(card, None, 7)
    with pytest.raises(InvalidValueError, match="unknown model 'own_net'"):
        own.save_pretrained(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", {})
        zoo.register(card)
        own.save_pretrained(tmp_path)
        assert torch.equal(ImageClassifier.from_pretrained(tmp_path)(IMAGES), own(IMAGES))
    with pytest.raises(InvalidValueError, match="unknown model 'own_net'"):
        ImageClassifier.from_pretrained(tmp_path)


def test_exchanged_network_is_refused(tmp_path: Path) -> None:
    model = build_model("tiny_s")
    model.network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(WeightsError, match="does not fit"):
        model.save_pretrained(tmp_path)


DAMAGES = {  # file and contents; None removes the file
    "no weights": ("model.safetensors", None),
    "damaged weights": ("model.safetensors", "no"),
    "no config": ("config.json", None),
    "no JSON": ("config.json", "{"),
    "no object": ("config.json", "[1]"),
    "no name": ("config.json", '{"num_classes": 10}'),
    "unknown name": ("config.json", '{"name": "resnet18"}'),
    "wrong name": ("config.json", '{"name": "tiny_m"}'),
    "wrong type": ("config.json", '{"name": "tiny_s", "num_classes": "10"}'),
    "wrong number": ("config.json", '{"name": "tiny_s", "num_classes": 3}'),
}


@pytest.mark.parametrize(("name", "text"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_folder_is_refused(folder: Path, name: str, text: str | None) -> None:
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(CifarZooError, match=r"config\.json|model\.safetensors|expected") as caught:
        ImageClassifier.from_pretrained(folder)
    assert not isinstance(caught.value, DownloadError)


@pytest.mark.parametrize(
    ("name", "kind"), [("no/such/folder", DownloadError), (3, InvalidTypeError)]
)
def test_what_is_neither_folder_nor_repository_is_refused(name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="expected"):
        ImageClassifier.from_pretrained(name)


def test_missing_huggingface_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "cifarzoo.hub", raising=False)
    monkeypatch.delattr(zoo, "hub", raising=False)
    with pytest.raises(MissingExtraError, match=r"cifarzoo\[hub\]"):
        build_model("tiny_s").save_pretrained(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's protocol that is needed to create, fill and read a repository."""

    protocol_version = "HTTP/1.1"
    files: dict[str, dict[str, bytes]]  # by repository and path
    tokens: set[str | None]
    oid = "5" * 40

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, content: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        content, address = self.body(), f"http://{self.headers['Host']}"
        self.tokens.add(self.headers.get("Authorization"))
        action = self.path.split("/")
        found: dict[str, Any] = {}
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            repository = f"{asked.get('organization', 'someone')}/{asked['name']}"
            self.files.setdefault(repository, {})
            found = {"url": f"{address}/{repository}"}
        elif action[-2] == "preupload":
            files = json.loads(content)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            found = {"files": [{"path": each["path"], **modes} for each in files]}
        elif action[-2] == "commit":
            repository = "/".join(action[3:5])
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    decoded = base64.b64decode(value["content"])
                    self.files[repository][value["path"]] = decoded
            url = f"{address}/{repository}/commit/{self.oid}"
            found = {"commitUrl": url, "commitOid": self.oid, "success": True}
        self.reply(json.dumps(found).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        repository = self.files.get("/".join(parts[:2]), {})
        content = repository.get(parts[-1]) if "resolve" in parts else None
        if parts[:2] == ["api", "models"]:  # asked by some versions before they upload
            found = {"id": "/".join(parts[2:4]), "sha": self.oid, "xetEnabled": False}
            self.reply(json.dumps(found).encode(), Content_Type="application/json")
        elif content is None:
            self.reply(b"", 404, X_Error_Code="EntryNotFound" if repository else "RepoNotFound")
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.reply(content, ETag=etag, X_Repo_Commit=self.oid)

    do_HEAD = do_GET  # noqa: N815

    @override
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, type[Hub]]]:
    """Return the address of a hub in this process, and its contents."""
    contents = type("Contents", (Hub,), {"files": {}, "tokens": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), contents) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{hub.server_port}", contents
        hub.shutdown()
        thread.join()


CODE = """
import json, torch
from cifarzoo import ImageClassifier, build_model
from cifarzoo.errors import DownloadError
model = build_model("tiny_s", weights="default")
url = model.push_to_hub("someone/a-model", private=True, token="secret", commit_message="First")
images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
found = {"url": url}
for i, options in enumerate(({}, {"revision": "main"}, {"local_files_only": True})):
    loaded = ImageClassifier.from_pretrained("someone/a-model", **options)
    found[f"equal{i}"] = torch.equal(loaded(images), model(images)) and not loaded.training
for name in ("someone/none", "someone/empty"):
    try:
        ImageClassifier.from_pretrained(name)
    except DownloadError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_model_goes_to_a_hub_and_comes_back(server: tuple[str, type[Hub]], tmp_path: Path) -> None:
    address, hub = server
    hub.files["someone/empty"] = {".gitattributes": b""}
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["url"].startswith(f"{address}/someone/a-model/")
    assert found["equal0"]
    assert found["equal1"]
    assert found["equal2"]
    assert hub.tokens == {"Bearer secret"}
    assert "cannot load someone/none" in found["someone/none"]
    assert "cannot load someone/empty" in found["someone/empty"]
    stored = hub.files["someone/a-model"]
    assert sorted(stored) == ["README.md", "config.json", "model.safetensors"]
    assert b'from_pretrained("someone/a-model")' in stored["README.md"]
