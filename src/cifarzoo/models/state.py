"""State dicts: read from a file, put into a module, written to a file.

A file is safetensors, or a state dict that torch saved (`.pth`, `.pt`, `.bin`), which is read with
torch's unpickler for tensors alone: nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, WeightsError, some_of, wrong_kind
from cifarzoo.files import replacing, require_whole_zip
from cifarzoo.spec import is_dense, to_path

__all__ = [
    "NOTES_KEY",
    "SUFFIXES",
    "load_state",
    "notes_in",
    "only_weights_in",
    "read_state_dict",
    "require_file",
    "save_weights",
]

PICKLED = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
SHOWN = 3
NOTES_KEY = "cifarzoo"  # in a file's metadata, to a JSON object: one entry, see `_with_digest`
DIGEST = "tensors_sha256"  # in that object
WRAPPED = {"module.": "DataParallel", "_orig_mod.": "compiled model"}  # by what names begin with
NETWORK = "network."  # what the names in a classifier begin with
COUNTER = "num_batches_tracked"  # of a batch norm; files of torch before 0.4.1 lack it


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], *, source: str, optional: str = ""
) -> None:
    """Copy every tensor of a state dict into a module; nothing is changed if one does not fit.

    Args:
        module: what the tensors are for.
        state: name to tensor, as `module.state_dict()` gives it.
        source: where it comes from, for the error.
        optional: a prefix of names that may be missing; those stay as they are.

    Raises:
        WeightsError: names are missing or unexpected, a shape differs, a number is not finite, or
            floats are given where whole numbers are needed. A float of another precision is
            converted.
    """
    own: dict[str, Tensor] = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(COUNTER)]
    problems = [
        *_names("missing", missing, optional),
        *_names("unexpected", [name for name in state if name not in own], ""),
        *_shapes(own, state),
        *_kinds(own, state),
        *_not_finite(own, state),
    ]
    if problems:
        hint = ""
        first = next((each for each in WRAPPED if all(n.startswith(each) for n in state)), None)
        if state and first is not None:
            hint = f"; it was saved from a {WRAPPED[first]}: take {first!r} off its names"
        elif state and all(f"{NETWORK}{name}" in own for name in state):
            hint = f"; it is the network's alone: put {NETWORK!r} before its names"
        elif _differs_in_classes(own, state):
            hint = (
                "; it is for another number of classes: build the model with that number, or give "
                "what the file holds a new head (transfer_classifier)"
            )
        raise WeightsError(f"{source} does not fit the model: {'; '.join(problems)}{hint}")
    module.load_state_dict({**own, **state})


def _names(what: str, names: list[str], optional: str) -> list[str]:
    if optional:
        names = [name for name in names if not name.startswith(optional)]
    if not names:
        return []
    return [f"{what} {some_of(names, SHOWN)}"]


def _shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    shown = [
        f"{name} has shape {tuple(state[name].shape)}, needed is {tuple(own[name].shape)}"
        for name in wrong[:SHOWN]
    ]
    return shown + ([f"{len(wrong) - SHOWN} more shapes differ"] if len(wrong) > SHOWN else [])


def _differs_in_classes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Tell whether all that does not fit is the last layer, whose rows are the classes."""
    wrong = {name for name in own if name in state and own[name].shape != state[name].shape}
    matrices = [name for name in own if own[name].ndim == 2]
    return bool(
        matrices
        and own.keys() == state.keys()
        and matrices[-1] in wrong
        and wrong <= {matrices[-1], matrices[-1].removesuffix("weight") + "bias"}
        and own[matrices[-1]].shape[1:] == state[matrices[-1]].shape[1:]
    )


def _kinds(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Name what torch would truncate or convert without a word."""
    return [
        f"{name} holds {_kind(state[name])}, needed is {_kind(own[name])}"
        for name in own
        if name in state and own[name].is_floating_point() != state[name].is_floating_point()
    ][:SHOWN]


def _not_finite(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Name what a model could compute nothing with, unless it is made of such numbers itself."""
    return [
        f"{name} holds NaN or infinity"
        for name, tensor in state.items()
        if not _is_finite(tensor) and name in own and _is_finite(own[name])
    ][:SHOWN]


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def only_weights_in(folder: Path) -> Path | None:
    """Give the one safetensors file of a folder; None where there is no folder, or not just one."""
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def require_file(path: Path) -> None:
    """Refuse a path at which there is no file.

    Raises:
        WeightsError: there is none, or a folder, or it cannot be read.
    """
    if not path.is_file():
        kind = "is no regular file" if path.exists() else "does not exist"
        inside = only_weights_in(path)
        hint = ";" if inside is None else f"; did you mean {inside}?"
        kind = f"is a folder{hint}" if path.is_dir() else f"{kind};"
        raise WeightsError(
            f"the weights file {path} {kind} needed is a .safetensors file, or a state dict that "
            f"torch saved ({', '.join(PICKLED)})"
        )
    try:
        path.open("rb").close()
    except OSError as error:
        raise WeightsError(
            f"the weights file {path} cannot be read ({error.strerror}); mend its permissions, or "
            "give another one"
        ) from error


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a file of named tensors onto the CPU; whatever it holds, nothing is executed.

    Args:
        path: of a safetensors file, or of a state dict that torch saved (.pth, .pt, .bin).

    Returns:
        Name to tensor, in the file's order.

    Raises:
        OptionError: path is none that there can be.
        WeightsError: the file is not there, is damaged, or holds something else.
    """
    path = to_path("path", path)
    require_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickled(path)
    raise WeightsError(
        f"{path} ends in {path.suffix!r}; allowed: .safetensors, {', '.join(PICKLED)}"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path, device="cpu")
        with safe_open(path, "pt") as file:
            notes = notes_in(file.metadata())
    except (SafetensorError, OSError) as error:
        way_out = "get it anew"
        if zipfile.is_zipfile(path):
            way_out = f"torch saved it, so name it {path.with_suffix('.pth').name}"
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); {way_out}"
        ) from error
    if DIGEST in notes and notes[DIGEST] != _digest(state):
        raise WeightsError(
            f"{path} was changed after it was written: its tensors have another SHA-256 than its "
            "header says; get it anew, or write what you changed with save_weights"
        )
    return state


def notes_in(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Give what cifarzoo noted in a safetensors file's metadata, such text as there is."""
    try:
        notes = json.loads((metadata or {}).get(NOTES_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(notes, dict):
        return {}
    return {name: text for name, text in notes.items() if isinstance(text, str)}


def _with_digest(metadata: Mapping[str, str] | None, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Add a hash of the tensors to the notes, in the same entry.

    For safetensors keeps several in no fixed order, and the same weights are to be the same file.

    Raises:
        OptionError: that entry is there and holds no JSON object.
    """
    given = (metadata or {}).get(NOTES_KEY, "{}")
    try:
        notes = json.loads(given)
    except (TypeError, ValueError, RecursionError):
        notes = None
    if not isinstance(notes, dict):
        raise OptionError(
            f"metadata[{NOTES_KEY!r}] is {given!r}; needed is a JSON object as text, or another key"
        )
    return {**(metadata or {}), NOTES_KEY: json.dumps(notes | {DIGEST: _digest(state)})}


def _digest(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and numbers of tensors: 64 hex digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {_kind(tensor)} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # older files' pickle protocol, and the like
            warnings.simplefilter("ignore")
            if zipfile.is_zipfile(path):
                require_whole_zip(path)  # torch itself does not look at the checksums
            stored: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors; nothing in it was executed. Needed "
            f"is a state dict: torch.save(model.state_dict(), path){_suffix_hint(path)}"
        ) from error
    except Exception as error:  # damaged bytes can raise whatever a parser raises
        raise WeightsError(
            f"{path} is not a whole file that torch saved; get it anew{_suffix_hint(path)}"
        ) from error
    if not isinstance(stored, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in stored.items()
    ):
        if isinstance(stored, Mapping) and {"format", "identity", "payload"} <= set(stored):
            raise WeightsError(
                f"{path} is the checkpoint of an unfinished run; give that run's command again, "
                "and load the weights that it writes"
            )
        kind = f"a {type(stored).__name__}"
        inside = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else kind
        raise WeightsError(
            f"{path} holds {inside}; needed is a state dict, name to tensor: "
            "torch.save(model.state_dict(), path)"
        )
    odd = [name for name, tensor in stored.items() if not _is_plain(tensor)]
    if odd:
        raise WeightsError(
            f"{path} lacks numbers of {', '.join(odd[:SHOWN])} (sparse, quantized, expanded or of "
            "no device); save dense tensors"
        )
    return dict(stored)


def _suffix_hint(path: Path) -> str:
    """Tell of a safetensors file that has torch's suffix; empty for other files."""
    with path.open("rb") as file:
        length, first = int.from_bytes(file.read(8), "little"), file.read(1)
    fits = first == b"{" and length + 8 <= path.stat().st_size
    return f"; it looks like safetensors: name it {path.stem}.safetensors" if fits else ""


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, and there are as many numbers as it says."""
    size_bytes = tensor.numel() * tensor.element_size()
    return is_dense(tensor) and size_bytes <= tensor.untyped_storage().nbytes()


def save_weights(
    model: nn.Module,
    path: str | Path,
    *,
    metadata: Mapping[str, str] | None = None,
    matrices: torch.dtype = torch.float32,
) -> None:
    """Write a model's weights as safetensors; the file is never half written.

    Args:
        model: `build_model(name, weights=path)` reads what an `ImageClassifier` of the same name
            wrote.
        path: ends in .safetensors; its folder is made if it is not there.
        metadata: notes for the file's header, text by key. A hash of the tensors, which is checked
            when they are read, is added to the JSON object under "cifarzoo". With other keys the
            order in the file varies.
        matrices: `torch.float16` stores the parameters of two or more dimensions in half
            precision, which halves the file; biases, statistics and the like stay as they are, as
            everything does with `torch.float32`.

    Raises:
        OptionError: matrices is another type, model no module, path none that there can be, or
            metadata has something else than a JSON object under "cifarzoo".
        WeightsError: the path ends in something else, or cannot be written; a parameter holds NaN
            or infinity; or a value cannot be stored in half precision.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if not isinstance(model, nn.Module):
        raise wrong_kind("model", model, "a torch.nn.Module")
    path = to_path("path", path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} ends in {path.suffix!r}; allowed: .safetensors")
    if matrices not in (torch.float32, torch.float16):
        raise OptionError(f"matrices is {matrices}; allowed: torch.float32, torch.float16")
    lost = [name for name, tensor in model.named_parameters() if not _is_finite(tensor)]
    if lost:
        raise WeightsError(
            f"{', '.join(lost[:SHOWN])} hold{'s' if len(lost) == 1 else ''} NaN or infinity, which "
            f"no model computes with: {path} was not written; save the state before it went wrong"
        )
    # Copied, for safetensors refuses tensors that share memory and those that are channels_last.
    state = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format).cpu()
        for name, tensor in model.state_dict().items()
    }
    if matrices == torch.float16:
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        state = {
            name: _halved(name, tensor, is_parameter=name in parameters)
            for name, tensor in state.items()
        }
    try:
        with replacing(path) as temporary:
            save_file(state, temporary, _with_digest(metadata, state))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path} ({error}); choose another path") from error


def _halved(name: str, tensor: Tensor, *, is_parameter: bool) -> Tensor:
    """Round to half precision what is large; whatever would not survive is refused."""
    if not tensor.is_floating_point():
        return tensor
    largest = torch.finfo(torch.float16).max
    is_matrix = is_parameter and tensor.dim() >= 2
    bad = ~tensor.isfinite()
    if is_matrix:
        bad |= tensor.abs() > largest
    if bool(bad.any()):
        limit = f"finite numbers up to {largest:,.0f}" if is_matrix else "finite numbers"
        raise WeightsError(
            f"{name} holds {tensor[bad][0].item()}, which half precision cannot; needed are {limit}"
        )
    return tensor.half() if is_matrix else tensor
