from __future__ import annotations

import json
import math
import os
import pickle
import signal
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from cifarzoo.errors import OptionError, WeightsError
from cifarzoo.models.state import load_state, read_state_dict, save_weights


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["a.safetensors", "folder/a.safetensors"])
def test_what_is_saved_is_read(tmp_path: Path, name: str) -> None:
    model = network().to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / name)
    state = read_state_dict(tmp_path / name)
    torch.testing.assert_close(state, dict(model.state_dict()), check_stride=False)
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == ["a.safetensors"]


def test_one_changed_bit_of_what_was_saved_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(
        network(), path, metadata={"cifarzoo": '{"model": "m", "epoch": 3}', "mine": "too"}
    )
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    for place in (length, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"was changed after it was written.* get it anew"):
            read_state_dict(path)
    path.write_bytes(content)
    read_state_dict(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    notes = json.loads(metadata["cifarzoo"])
    assert (metadata["mine"], notes["model"], notes["epoch"]) == ("too", "m", 3)
    with pytest.raises(OptionError, match=r"metadata\['cifarzoo'\] is 'mine'; needed is a JSON"):
        save_weights(network(), path, metadata={"cifarzoo": "mine"})
    assert path.read_bytes() == content


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    model = network()
    for name in ("a.safetensors", "b.safetensors"):
        save_weights(model, tmp_path / name, metadata={"cifarzoo": '{"model": "m"}'})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    save_weights(tied, str(tmp_path / "a.safetensors"))
    read = read_state_dict(tmp_path / "a.safetensors")
    assert torch.equal(read["1.weight"], tied.state_dict()["0.weight"])


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read(tmp_path: Path, name: str, zipped: bool) -> None:
    model = network()
    torch.save(model.state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(read_state_dict(tmp_path / name), dict(model.state_dict()))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "made"
    (tmp_path / name).write_bytes(pickle.dumps({"weight": Trap(folder)}))
    with pytest.raises(WeightsError, match=name):
        read_state_dict(tmp_path / name)
    torch.save({"weight": Trap(folder)}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"b\.pth .* nothing in it was executed"):
        read_state_dict(tmp_path / "b.pth")
    (tmp_path / "b.pth").rename(tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"b\.safetensors is not a whole safetensors file"):
        read_state_dict(tmp_path / "b.safetensors")
    assert not folder.exists()


def test_what_is_added_to_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(network(), path)
    for more in (b"\0", b"more"):
        path.write_bytes(path.read_bytes() + more)
        with pytest.raises(WeightsError, match=r"a\.safetensors is not a whole safetensors file"):
            read_state_dict(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(network().state_dict(), path)
    else:
        save_weights(network(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=name):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "holds epoch, state_dict; needed is a state dict"),
        ({"format": 1, "identity": {}, "payload": {}}, "checkpoint of an unfinished run; give"),
        ([torch.zeros(1)], "holds a list; needed is a state dict"),
        (torch.zeros(1), "holds a Tensor"),
    ],
)
def test_something_else_than_a_state_dict_is_refused(
    tmp_path: Path, stored: object, message: str
) -> None:
    torch.save(stored, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=message):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin"])
def test_a_compressed_file_is_not_unpacked(tmp_path: Path, name: str) -> None:
    whole, packed = tmp_path / "whole.pth", tmp_path / name
    torch.save({"weight": torch.zeros(1_000_000)}, whole)
    with zipfile.ZipFile(whole) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for member in plain.namelist():
            out.writestr(member, plain.read(member))
    assert packed.stat().st_size < 10_000
    with pytest.raises(WeightsError, match="is not a whole file that torch saved") as caught:
        read_state_dict(packed)
    assert "compressed" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**12), torch.zeros(3).to_sparse(), torch.zeros(3, device="meta")],
    ids=["expanded", "sparse", "meta"],
)
def test_a_tensor_that_lacks_numbers_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"good": torch.zeros(2), "odd": tensor}, path)
    with pytest.raises(WeightsError, match=r"lacks numbers of odd \(|is damaged, or holds more"):
        read_state_dict(path)


def test_a_wrong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"lost\.pth does not exist; needed is"):
        read_state_dict(tmp_path / "lost.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        read_state_dict(tmp_path)
    (tmp_path / "a.onnx").touch()
    with pytest.raises(WeightsError, match=r"'\.onnx'; allowed: \.safetensors, \.pth"):
        read_state_dict(tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match=r"ends in '\.pth'; allowed: \.safetensors"):
        save_weights(network(), tmp_path / "a.pth")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    (tmp_path / "a.safetensors" / "inside").touch()
    with pytest.raises(WeightsError, match="cannot write"):
        save_weights(network(), tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def changed(model: nn.Module, **changes: Tensor | None) -> dict[str, Tensor]:
    state = {**model.state_dict(), **changes}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    model, other = network(), network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = changed(other, **{"3.bias": None, "4.bias": torch.zeros(2)})
    state["3.weight"] = torch.zeros(9, 4)
    with pytest.raises(WeightsError) as caught:
        load_state(model, state, source="some file")
    assert str(caught.value) == (
        "some file does not fit the model: missing 3.bias; unexpected 4.bias; 3.weight has shape "
        "(9, 4), needed is (2, 4)"
    )
    torch.testing.assert_close(dict(model.state_dict()), before)


def test_long_lists_are_cut_and_data_parallel_is_recognised() -> None:
    model = network()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"0\.weight, 0\.bias, 1\.weight and 5 more") as caught:
        load_state(model, state, source="it")
    assert "saved from a DataParallel: take 'module.' off its names" in str(caught.value)
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"a compiled model: take '_orig_mod\.' off its names"):
        load_state(network(), state, source="some file")


def test_a_networks_own_names_are_recognised() -> None:
    whole = nn.Sequential()
    whole.add_module("network", network())
    with pytest.raises(WeightsError, match=r"the network's alone: put 'network\.' before"):
        load_state(whole, network().state_dict(), source="it")


def test_batch_norms_counter_may_be_missing_as_torch_lets_it() -> None:
    model, other = network(), network()
    state = {k: v for k, v in other.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(state) < len(other.state_dict())
    model.load_state_dict(state)  # torch, strictly
    load_state(model, state, source="it")
    torch.testing.assert_close(model.state_dict()["0.weight"], other.state_dict()["0.weight"])


def test_optional_names_may_be_missing() -> None:
    model, other = network(), network()
    bias = model.state_dict()["3.bias"].clone()
    load_state(model, changed(other, **{"3.bias": None}), source="it", optional="3.")
    assert torch.equal(model.state_dict()["3.bias"], bias)
    assert torch.equal(model.state_dict()["3.weight"], other.state_dict()["3.weight"])


def test_one_changed_bit_in_a_file_of_torch_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    state = {"weight": torch.full((64,), 0.125)}
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    inside = content.index(b"\x00\x00\x00\x3e" * 8)
    content[inside + 3] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pth is not a whole file that torch saved"):
        read_state_dict(path)


def test_name_that_no_disk_takes_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot write .*choose another path"):
        save_weights(network(), tmp_path / f"{'a' * 240}.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_full_disk_is_a_clear_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "a.safetensors"
    save_weights(network(), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        with pytest.raises(WeightsError, match="cannot write"):
            save_weights(network(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before


def test_empty_state_was_not_saved_from_a_data_parallel() -> None:
    with pytest.raises(WeightsError) as caught:
        load_state(network(), {}, source="it")
    assert "DataParallel" not in str(caught.value)


def test_half_precision_is_for_matrices_alone(tmp_path: Path) -> None:
    model = network()
    save_weights(model, tmp_path / "a.safetensors", matrices=torch.float16)
    state = read_state_dict(tmp_path / "a.safetensors")
    halves = {name for name, tensor in state.items() if tensor.dtype == torch.float16}
    assert halves == {"0.weight", "3.weight"}
    assert state["1.num_batches_tracked"].dtype == torch.int64
    other = network()
    load_state(other, state, source="a")
    for name, tensor in other.state_dict().items():
        own = model.state_dict()[name]
        assert tensor.dtype == own.dtype
        assert torch.equal(tensor, own.half().float() if name in halves else own)
    again = tmp_path / "b.safetensors"
    save_weights(other, again, matrices=torch.float16)
    assert again.read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(WeightsError, match="has shape"):
        load_state(other, {**state, "0.weight": state["0.weight"][:1]}, source="a")


@pytest.mark.parametrize("value", [65505.0, -1e30])
def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    model = network()
    conv = model[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"0.weight holds .* which half precision cannot"):
        save_weights(model, tmp_path / "a.safetensors", matrices=torch.float16)
    assert not list(tmp_path.iterdir())
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = 65504.0
        conv.bias[0] = 1e9  # stays in float32
    save_weights(model, tmp_path / "a.safetensors", matrices=torch.float16)
    model.register_buffer("ceiling", torch.tensor([math.inf]))
    with pytest.raises(WeightsError, match=r"ceiling holds inf"):
        save_weights(model, tmp_path / "a.safetensors", matrices=torch.float16)


def test_other_types_of_matrices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"matrices is torch.bfloat16; allowed: torch.float32"):
        save_weights(network(), tmp_path / "a.safetensors", matrices=torch.bfloat16)


def test_floats_are_not_truncated_to_counts() -> None:
    model = network()
    state = {**model.state_dict(), "1.num_batches_tracked": torch.tensor(1.5)}
    with pytest.raises(WeightsError, match=r"1.num_batches_tracked holds float32, needed is int64"):
        load_state(model, state, source="a")
    state = {**model.state_dict(), "0.bias": torch.zeros(4, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"0.bias holds int8, needed is float32"):
        load_state(model, state, source="a")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused_unless_the_model_has_them(number: float) -> None:
    model = network()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["3.bias"][1] = number
    with pytest.raises(WeightsError, match=r"a\.pth does not fit .* 3\.bias holds NaN or infinity"):
        load_state(model, state, source="a.pth")
    assert model.get_parameter("3.bias").isfinite().all()
    with torch.no_grad():
        model.get_parameter("3.bias")[0] = number
    load_state(model, state, source="a.pth")
    narrow = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    narrow["3.bias"] = narrow["3.bias"].to(torch.float8_e4m3fn)
    load_state(network(), narrow, source="a.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_written(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.safetensors"
    model = network()
    save_weights(model, path)
    before = path.read_bytes()
    with torch.no_grad():
        model.get_parameter("3.bias")[0] = number
    with pytest.raises(WeightsError, match=r"^3\.bias holds NaN or infinity.* was not written"):
        save_weights(model, path)
    assert path.read_bytes() == before


def test_a_file_under_the_suffix_of_another_kind_is_told_its_own(tmp_path: Path) -> None:
    model = network()
    torch.save(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"name it a\.pth"):
        read_state_dict(tmp_path / "a.safetensors")
    save_weights(model, tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").rename(tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"looks like safetensors: name it b\.safetensors"):
        read_state_dict(tmp_path / "b.pth")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no /dev/null")
def test_what_is_no_regular_file_is_told_as_such() -> None:
    with pytest.raises(WeightsError, match="/dev/null is no regular file"):
        read_state_dict("/dev/null")


def test_a_file_that_may_not_be_read_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_weights(network(), tmp_path / "a.safetensors")

    def shut(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", shut)  # root may read all
    with pytest.raises(WeightsError, match=r"cannot be read \(Permission denied\)"):
        read_state_dict(tmp_path / "a.safetensors")
