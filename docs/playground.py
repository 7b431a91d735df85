"""Files of the playground: models whose maps are outputs, and ONNX Runtime for browsers."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

import cifarzoo as zoo
from cifarzoo.export import OPSET

__all__ = ["MODELS", "write_playground"]

MODELS = ("resnet20", "tiny_m", "resnet56")  # the last is the best one with weights below 2 MB
STAGES = ("stage1", "stage2", "stage3")
RUNTIME = "onnxruntime-web@1.30.0"
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


class WithMaps(nn.Module):
    """A classifier that also returns maps: of the evidence for each class, and of its stages.

    Its head is linear over the mean of the last stage's maps, so the evidence for a class is a
    weighted sum of them (class activation mapping, arXiv 1512.04150).
    """

    def __init__(self, model: zoo.ImageClassifier) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        stages = [self.model.get_submodule(f"network.{name}") for name in STAGES]
        hooks = [
            stage.register_forward_hook(lambda *each: found.append(each[2])) for stage in stages
        ]
        logits = self.model(images)
        for hook in hooks:
            hook.remove()
        weight = self.model.get_submodule("network.head.linear").get_parameter("weight")
        return logits, nn.functional.conv2d(found[-1], weight[:, :, None, None]), *found


def write_playground(folder: Path) -> None:
    """Write models, their list and the runtime into a folder, unless they are there already."""
    cards = {name: zoo.model_card(name).weights_for("default") for name in MODELS}
    facts = {name: weights.accuracy for name, weights in cards.items() if weights}
    key = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(facts).encode()).hexdigest()
    stamp = folder / "stamp.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == key:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _fetch_runtime(folder)
    listed = []
    for name in MODELS:
        model = zoo.build_model(name, weights="default")
        _export(model, folder / f"{name}.onnx")
        listed.append(
            {
                "name": name,
                "file": f"{name}.onnx",
                "bytes": (folder / f"{name}.onnx").stat().st_size,
                "params": zoo.count_params(model),
                "accuracy": facts[name],
                "classes": model.class_names,
            }
        )
    (folder / "models.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    stamp.write_text(key, encoding="utf-8")


def _export(model: zoo.ImageClassifier, path: Path) -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        torch.onnx.export(
            WithMaps(model).eval(),
            (image,),
            path,
            dynamo=True,
            external_data=False,
            input_names=["images"],
            output_names=["logits", "evidence", *STAGES],
            opset_version=OPSET,
            verbose=False,
        )


def _fetch_runtime(folder: Path) -> None:
    """Download a pinned package from the npm registry, and extract what a page needs."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing: the playground of the documentation needs it")
    with tempfile.TemporaryDirectory() as place:
        command = (npm, "pack", RUNTIME, "--silent", "--pack-destination", place)
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = Path(place).glob("*.tgz")
        digest = hashlib.sha512(archive.read_bytes()).digest()
        found = f"sha512-{base64.b64encode(digest).decode()}"
        if found != INTEGRITY:
            raise RuntimeError(f"{RUNTIME} has the hash {found}, expected {INTEGRITY}")
        with tarfile.open(archive) as package:
            for name in RUNTIME_FILES:
                content = package.extractfile(f"package/dist/{name}")
                assert content is not None
                (folder / name).write_bytes(content.read())
