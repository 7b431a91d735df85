"""Find, verify, load and save trained weights.

A weights file is in the safetensors format, or a state dict saved by torch (`.pth`, `.pt`, `.th`,
`.bin`) and read with torch's restricted unpickler: no code in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from typing_extensions import TypeIs

from cifarzoo.card import DEFAULT, ModelCard, Weights
from cifarzoo.data import CIFAR100_CLASSES, CLASS_NAMES, CLASSES
from cifarzoo.download import download as download_file
from cifarzoo.errors import DownloadError, WeightsError, suggest
from cifarzoo.files import replace_file
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.third_party import LAYOUTS, recognize
from cifarzoo.models.transfer import BackboneWeights, TransferClassifier
from cifarzoo.record import RunRecord, read_record, read_scores
from cifarzoo.validation import expand_path

__all__ = [
    "PRETRAINED",
    "StoredWeights",
    "count_classes",
    "load_state",
    "load_weights",
    "packaged_file",
    "packaged_weights",
    "read_metadata",
    "read_state_dict",
    "read_weights",
    "save_weights",
    "scores_file",
    "sha256_of",
    "verify_file",
]

PRETRAINED = Path(__file__).parent / "pretrained"

_SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".bin")
_ACCEPTED = ", ".join(_SUFFIXES)
# safetensors keeps metadata entries in no fixed order. Ours are one JSON object under one key, so
# that the same weights always make the same file.
_METADATA = "cifarzoo"
_DIGEST = "tensors_sha256"
_CLASS_NAMES = "class_names"
_MAX_HEADER = 4_000_000  # bytes; a tensor takes about a hundred, and 100 µs to read
_COUNTER = "num_batches_tracked"  # of a batch norm; missing in files of torch before 0.4.1


class StoredWeights(NamedTuple):
    """Weights as they were read.

    Attributes:
        state: tensors by name, like the model's `state_dict()`.
        source: the file, and the model that it was made for if known; for error messages.
        class_names: names of the classes; None if unknown.
    """

    state: dict[str, Tensor]
    source: str
    class_names: tuple[str, ...] | None


def read_weights(
    model: ImageClassifier, weights: str | Path, card: ModelCard, *, download: bool = True
) -> StoredWeights:
    """Find, verify and read weights.

    Args:
        model: a model from the card's builder, whose head completes the weights of a backbone.
        weights: "default" for the best CIFAR-10 weights in the package, the tag of other
            packaged weights, the tag of a backbone's published weights, or the path of a file,
            which holds all weights of the model or those of a transfer model's backbone.
        card: the model's card.
        download: whether to download published weights that are not in torch's cache.

    Raises:
        InvalidTypeError: weights is neither a string nor a path.
        WeightsError: there are no such weights, or the file is damaged.
        DownloadError: published weights could not be downloaded.
    """
    path, tag = expand_path("weights", weights), str(weights)
    packaged = card.weights_for(tag)
    entries = model.published if isinstance(model, TransferClassifier) else ()
    published = {entry.tag: entry for entry in entries}
    if packaged is not None:
        path = packaged_file(card.name, packaged.tag)
        verify_file(path, packaged.sha256)
    elif tag in published:
        path = _published_file(published[tag], download=download)
    elif not path.suffix:
        known = [*(each.tag for each in card.weights), *published]
        known = [DEFAULT, *known] if card.weights_for(DEFAULT) else known
        raise WeightsError(
            f"weights is {tag!r}: expected the path of a file ({_ACCEPTED}), or a tag of "
            f"{card.name} ({', '.join(known) or 'none in the package'}){suggest(tag, known)}"
        )
    state = read_state_dict(path, max_header=100_000 + 1000 * len(model.state_dict()))
    class_names = _read_class_names(path)
    if isinstance(model, TransferClassifier) and not any(n.startswith("network.") for n in state):
        own = model.state_dict()
        kept = ("preprocess.", f"network.{model.head}.")
        state = {f"network.{name}": tensor for name, tensor in state.items()}
        state |= {name: tensor for name, tensor in own.items() if name.startswith(kept)}
        class_names = None  # those of the backbone's head
    made_for = read_metadata(path).get("model")
    source = f"{path} (weights of {made_for})" if made_for else str(path)
    return StoredWeights(state, source, class_names)


def packaged_weights(name: str) -> tuple[Weights, ...]:
    """Return a model's weights in the package, the highest test accuracy first.

    They are described by the records of the runs behind them, one JSON file per seed next to the
    weights. Scores of the file itself, if there are any, are in another JSON file.

    Args:
        name: the model's name.

    Raises:
        WeightsError: a weights file is missing.
        RunError: a record is damaged.
    """
    runs: dict[str, list[RunRecord]] = {}
    for path in sorted(PRETRAINED.glob(f"{name}-*-seed*.json")):
        tag = path.stem.split("-")[1]  # names and tags contain no hyphen
        runs.setdefault(tag, []).append(read_record(path))
    found = []
    for tag, same in runs.items():
        path = packaged_file(name, tag)
        if not path.is_file():
            raise WeightsError(f"{path} does not exist: reinstall cifarzoo")
        weights = Weights(tag=tag, size_bytes=path.stat().st_size, runs=tuple(same))
        if scores_file(name, tag).exists():
            scores = read_scores(scores_file(name, tag))
            # Scores of weights that were since replaced do not count.
            if scores.weights_sha256 == weights.sha256:
                weights = replace(weights, scores=scores)
        found.append(weights)
    return tuple(sorted(found, key=lambda weights: -weights.accuracy))


def packaged_file(name: str, tag: str) -> Path:
    """Return the path of a model's weights in the package, whether or not the file exists.

    Args:
        name: the model's name.
        tag: the tag of the weights.
    """
    return PRETRAINED / f"{name}-{tag}.safetensors"


def scores_file(name: str, tag: str) -> Path:
    """Return the path of the scores of a model's weights, whether or not the file exists.

    Args:
        name: the model's name.
        tag: the tag of the weights.
    """
    return PRETRAINED / f"{name}-{tag}-scores.json"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_file(path: Path, expected: str) -> None:
    """Raise a `WeightsError` if a file does not have the expected SHA-256."""
    found = sha256_of(path)
    if found != expected:
        raise WeightsError(
            f"{path} is truncated or was changed: expected SHA-256 {expected}, got {found}"
        )


def _published_file(published: BackboneWeights, *, download: bool) -> Path:
    """Return the verified file in torch hub's cache; download it if it is missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(published.url).path).name
    known_hash, size = f"sha256:{published.sha256}", published.size_bytes
    failures = [] if path.is_file() else ["download is False"]
    if failures and download:
        failures = download_file([published.url], path, known_hash=known_hash, size_bytes=size)
    if failures:
        raise DownloadError(
            f"{path} is missing and could not be downloaded ({'; '.join(failures)}): put the file "
            "there (TORCH_HOME moves that folder), or pass its path as weights"
        )
    verify_file(path, published.sha256)
    return path


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy a state dict into a module; change nothing if a tensor does not fit.

    Floating-point tensors of another precision are converted.

    Args:
        module: the module to load into.
        state: tensors by name, like `module.state_dict()`.
        source: where the state comes from, for the error message.

    Raises:
        WeightsError: a name is missing or unexpected, a shape differs, a tensor is floating-point
            and should be integer or the reverse, or a value is NaN or infinite.
    """
    complete = module.state_dict()  # may hold extra states, which weights files leave out
    own = {name: value for name, value in complete.items() if isinstance(value, Tensor)}
    problems = [f"{n} is missing" for n in own if n not in state and not n.endswith(_COUNTER)]
    problems += [f"{name} is unexpected" for name in state if name not in own]
    for name, expected in own.items():
        found = state.get(name, expected)
        if found.shape != expected.shape:
            problems.append(f"{name}: expected shape {[*expected.shape]}, got {[*found.shape]}")
        elif found.is_floating_point() != expected.is_floating_point():
            problems.append(f"{name}: expected {expected.dtype}, got {found.dtype}")
        elif not _is_finite(found):
            problems.append(f"{name} contains NaN or infinity")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{source} does not fit the model: {'; '.join(problems[:3])}{more}{_hint(own, state)}"
        )
    module.load_state_dict({**complete, **state})


def load_weights(path: str | Path) -> ImageClassifier:
    """Build the residual network of another project from a file of its weights.

    The names of the tensors determine the project: chenyaofo/pytorch-cifar-models,
    akamaster/pytorch_resnet_cifar10 or pytorchcv (`resnet20_cifar10` and its other depths without
    bottlenecks). Depth and number of classes are those of the tensors. The model has the shortcuts
    and the normalisation of the project; `build_model` reads the files of cifarzoo's own models.

    Args:
        path: a safetensors file, or a state dict or checkpoint saved by torch (.pth, .pt, .th,
            .bin). No code in it is executed.

    Returns:
        A model on the CPU in evaluation mode, from images, uint8 (N,3,32,32) or float in [0, 1], to
        logits. Ten classes have the names of CIFAR-10, a hundred those of CIFAR-100.

    Raises:
        InvalidTypeError: path is not a path.
        WeightsError: the file is missing or damaged, its names are those of none of the projects,
            or a tensor is missing or has an unexpected shape.

    Example:
        >>> model = load_weights("cifar10_resnet20-4118986f.pt")  # doctest: +SKIP
    """
    state = read_state_dict(path)
    found = recognize(state)
    if found is None:
        raise WeightsError(
            f"{path} has unknown names, such as {next(iter(state), '')!r}: expected a CIFAR ResNet "
            f"of {', '.join(each.project for each in LAYOUTS)}; build_model(name, weights=path) "
            "reads the weights of cifarzoo's own models"
        )
    layout, renamed = found
    blocks = sum(bool(re.fullmatch(r"stage1\.\d+\.first\.conv\.weight", name)) for name in renamed)
    with torch.inference_mode(mode=False):  # whose tensors cannot be trained
        model = layout.build(10, blocks_per_stage=blocks).eval()
        if n := count_classes(model.network.state_dict(), renamed):
            model = layout.build(n, blocks_per_stage=blocks).eval()
        load_state(model.network, renamed, source=str(path))
    names = {10: CLASSES, 100: CIFAR100_CLASSES}
    model.class_names = names.get(len(renamed["head.linear.weight"]))
    return model


def count_classes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of a state dict for a model with another number of classes.

    Args:
        own: the state dict of the model, whatever its number of classes.
        state: tensors by name.

    Returns:
        The length of the layer's output, if a single layer differs and only in that length;
        otherwise None.
    """
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    layers = {name.rpartition(".")[0] for name in wrong}
    if len(layers) == 1 and all(own[name].shape[1:] == state[name].shape[1:] for name in wrong):
        return state[wrong[0]].shape[:1].numel() or None
    return None


def _hint(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return how to fix a common mistake."""
    if not state:
        return ""
    if recognize(state):
        return ". Read the file by load_weights(path)"
    prefix = next(iter(state)).partition(".")[0] + "."  # of DataParallel or torch.compile
    if {name.removeprefix(prefix) for name in state} <= own.keys():
        return f". Remove {prefix!r} from its names"
    if {f"network.{name}" for name in state} <= own.keys():
        return ". Add 'network.' to its names"
    found = count_classes(own, state)
    return f". Try num_classes={found}" if found else ""


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def read_state_dict(path: str | Path, *, max_header: int = _MAX_HEADER) -> dict[str, Tensor]:
    """Read a file of named tensors into CPU memory; no code in the file is executed.

    Args:
        path: a safetensors file, or what torch saved (.pth, .pt, .th, .bin): a state dict, or a
            dict that holds one as "state_dict", such as a checkpoint.
        max_header: accepted size of a safetensors file's header, in bytes.

    Returns:
        Tensors by name, in the order of the file.

    Raises:
        InvalidTypeError: path is not a path.
        WeightsError: the file does not exist, is damaged, or holds something else.
    """
    path = expand_path("path", path)
    if not path.is_file() or path.suffix not in _SUFFIXES:
        raise WeightsError(f"no weights file {path}: expected an existing file ({_ACCEPTED})")
    if path.suffix != ".safetensors":
        return _read_pickled(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if (size := _header_size(path)) > max_header:
            limit = f"expected a header of at most {max_header:,} bytes, got {size:,}"
            raise WeightsError(f"{path} does not fit the model, or is damaged: {limit}")
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error})") from error
    if _read_header(path).get(_DIGEST, digest := _digest(state)) != digest:
        raise WeightsError(f"{path} was changed after it was written: its tensors' hash differs")
    return state


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata that `save_weights` stored in a file.

    Args:
        path: a weights file.

    Returns:
        Text by key, such as {"model": "resnet20", "data": "cifar10", "tag": "long"}; empty if the
        file is damaged or was not written by `save_weights`.
    """
    header = _read_header(expand_path("path", path))
    return {k: text for k, text in header.items() if k != _DIGEST and isinstance(text, str)}


def _read_class_names(path: Path) -> tuple[str, ...] | None:
    header = _read_header(path)
    names = header.get(_CLASS_NAMES, CLASS_NAMES.get(str(header.get("data"))))
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _header_size(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _read_header(path: Path) -> dict[str, object]:
    from safetensors import SafetensorError, safe_open

    try:
        if _header_size(path) > _MAX_HEADER:
            return {}
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        found.update(f"{name} {dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # about old pickle protocols
            if zipfile.is_zipfile(path):  # torch ignores checksums, and unpacks zip bombs
                with zipfile.ZipFile(path) as archive:
                    is_packed = any(member.compress_type for member in archive.infolist())
                    if is_packed or archive.testzip() is not None:
                        raise WeightsError("it is compressed, or a checksum differs")
            stored: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make a parser raise anything
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise WeightsError(
            f"{path} is damaged or holds more than tensors ({reason}): expected the output of "
            "torch.save(model.state_dict(), path); no code in it was executed"
        ) from error
    inner = stored.get("state_dict") if isinstance(stored, Mapping) else None
    stored = inner if isinstance(inner, Mapping) and inner else stored  # of a checkpoint
    if not _is_state_dict(stored):
        kind = type(stored).__name__
        raise WeightsError(f"{path} holds a {kind}: expected a state dict of dense tensors")
    return dict(stored)


def _is_state_dict(stored: object) -> TypeIs[Mapping[str, Tensor]]:
    return isinstance(stored, Mapping) and all(
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        for name, value in stored.items()
    )


def save_weights(
    model: nn.Module,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a model's weights to a safetensors file, atomically.

    Args:
        model: the model to save. `build_model(name, weights=path)` reads the file if the model was
            built by that name. Its `class_names`, if any, are stored as well.
        path: a path that ends in .safetensors; missing folders are created.
        metadata: text by key for the file's header, such as {"model": "resnet20"}. A hash of the
            tensors, which is checked when they are read, is always added.
        half: whether to store parameters with two or more dimensions in float16, which halves the
            file; biases and statistics keep their precision.

    Raises:
        InvalidTypeError: path is not a path.
        WeightsError: the path has another suffix or cannot be written, the state dict holds more
            than dense tensors, or a value is NaN or infinite, or would be in float16.
    """
    from safetensors.torch import save

    path = expand_path("path", path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"path is {path}: expected the suffix .safetensors")
    stored = model.state_dict()
    if not _is_state_dict(stored):
        kind = type(model).__name__
        raise WeightsError(
            f"the state dict of {kind} holds more than dense tensors, such as an "
            "extra state: expected one that a safetensors file can hold"
        )
    matrices = {
        name for name, each in model.named_parameters(remove_duplicate=False) if each.ndim > 1
    }
    state = {}
    for name, tensor in stored.items():
        # Copied, since safetensors refuses tensors that share memory or are channels_last.
        copy = tensor.detach().clone(memory_format=torch.contiguous_format).cpu()
        state[name] = copy.half() if half and name in matrices else copy
        if not _is_finite(state[name]):
            where = " in float16" if half else ""
            raise WeightsError(f"{name} contains NaN or infinity{where}: {path} was not written")
    header: dict[str, object] = {**(metadata or {}), _DIGEST: _digest(state)}
    if class_names := getattr(model, "class_names", None):
        header[_CLASS_NAMES] = [str(name) for name in class_names]
    try:
        with replace_file(path) as file:  # `save_file` would make it private to the user
            file.write(save(state, {_METADATA: json.dumps(header)}))
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error}") from error
