from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifarzoo import CifarZooError, device
from cifarzoo.device import (
    autocast,
    cpu_has_amx,
    cpu_multiplies_bfloat16_faster,
    keep_freed_memory,
    plain_float32,
    processor_name,
    resolve_device,
    resolve_precision,
    seeded,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    caches: list[Any] = [device._cpu_capabilities, keep_freed_memory, processor_name]
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def _capabilities(monkeypatch: pytest.MonkeyPatch, **capabilities: object) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel(R) Xeon(R)", "amx_bf16": False, "avx512_bf16": True}, torch.float32),
        ({"cpu_name": "AMD EPYC 9B14", "avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "AMD EPYC 7B13", "avx2": True}, torch.float32),
        ({"architecture": "arm64", "bf16": True}, torch.bfloat16),
        ({"architecture": "arm64", "neon": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_is_bfloat16_only_on_cpus_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: torch.dtype
) -> None:
    _capabilities(monkeypatch, **capabilities)
    assert resolve_precision("auto", CPU) == expected
    assert cpu_has_amx() is bool(capabilities.get("amx_bf16"))


def test_auto_is_float32_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Apple M2 has bfloat16 instructions, which torch on macOS does not use."""
    _capabilities(monkeypatch, architecture="arm64", bf16=True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert resolve_precision("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512_bf16 amx_bf16 amx_tile", True),
        ("vendor_id : GenuineIntel\nflags : fpu avx512_bf16", False),
        ("vendor_id : AuthenticAMD\nflags : fpu avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : fpu avx2", False),
        ("Features : asimd bf16 i8mm", True),
    ],
)
def test_cpu_flags_are_read_from_the_system_with_older_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: bool
) -> None:
    _capabilities(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
    assert cpu_multiplies_bfloat16_faster() is expected


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_auto_on_a_gpu_depends_on_its_generation(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda")) == getattr(torch, expected)


def test_explicit_precision_is_used_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    _capabilities(monkeypatch, amx_bf16=True)
    assert resolve_precision("float32", CPU) == torch.float32
    _capabilities(monkeypatch)
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


def test_unknown_precision_suggests_the_closest() -> None:
    with pytest.raises(CifarZooError, match=r"'bfloat6'.*did you mean 'bfloat16'"):
        resolve_precision("bfloat6", CPU)  # type: ignore[arg-type]


def test_autocast_uses_the_chosen_dtype() -> None:
    layer, inputs = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast(CPU, torch.bfloat16, layer):
        assert layer(inputs).dtype == torch.bfloat16
    with autocast(CPU, torch.float32, layer):
        assert layer(inputs).dtype == torch.float32


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_selects_the_fastest_device(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == expected


def test_auto_is_the_cpu_for_several_processes_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True, raising=False)
    assert resolve_device("auto") == CPU


def test_available_device_is_returned() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:99", "xla", "hpu", "privateuseone"])
def test_unavailable_device_is_a_short_error(name: str) -> None:
    with pytest.raises(ValueError, match="expected auto, cpu") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)
    assert len(str(caught.value)) < 500  # torch's own message may list every backend


def test_processor_is_named_without_a_cpuinfo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
    _capabilities(monkeypatch, cpu_name="Apple M2")
    assert processor_name() == "Apple M2"
    processor_name.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "ARM64")
    assert processor_name() == "ARM64"


def _no_allocator(_: object) -> None:
    raise AssertionError("the allocator was touched")


def _unreadable() -> tuple[str, str]:
    raise PermissionError("Python from the Microsoft Store cannot be read")


@pytest.mark.parametrize(
    ("variable", "system", "libc_ver"),
    [
        ("0", "linux", lambda: ("glibc", "2.36")),
        ("1", "linux", lambda: ("", "")),  # musl
        ("1", "win32", _unreadable),
    ],
)
def test_allocator_is_left_alone_on_request_or_without_glibc(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    system: str,
    libc_ver: Callable[[], tuple[str, str]],
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", _no_allocator)
    monkeypatch.setenv("CIFARZOO_KEEP_MEMORY", variable)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "libc_ver", libc_ver)
    assert keep_freed_memory() is False


def test_allocator_is_configured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class FakeLibrary:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeLibrary())
    monkeypatch.delenv("CIFARZOO_KEEP_MEMORY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert keep_freed_memory() is True
    assert keep_freed_memory() is True
    # malloc.h: M_MMAP_MAX is -4, M_TRIM_THRESHOLD -1, M_TOP_PAD -2
    assert calls == [(-4, 0), (-1, -1), (-2, 64 * 2**20)]


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs glibc"
)
def test_glibc_accepts_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARZOO_KEEP_MEMORY", raising=False)
    assert keep_freed_memory() is True


def test_seeded_is_deterministic_and_restores_the_state(
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    drawn = []
    for seed in (3, 3, 4):
        with global_state_untouched(), seeded(seed):
            drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_seeded_matches_torch_manual_seed() -> None:
    with seeded(7, CPU):
        ours = torch.rand(4)
    assert torch.equal(ours, torch.rand(4, generator=torch.Generator().manual_seed(7)))


def test_random_state_is_restored_after_an_error(
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    def fail() -> None:
        with seeded(1):
            torch.rand(1)
            raise ZeroDivisionError

    with global_state_untouched(), pytest.raises(ZeroDivisionError):
        fail()


def test_seeding_the_cpu_leaves_accelerators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def seed_all(_: int) -> None:
        raise AssertionError("an unused GPU was seeded")

    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seed_all)
    with seeded(1, CPU), seeded(1):
        torch.rand(1)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range_is_rejected(seed: int) -> None:
    with pytest.raises(CifarZooError, match=f"seed is {seed}"), seeded(seed):
        pass


def test_models_with_weights_of_any_shape_are_moved() -> None:
    deep, flat = nn.Conv3d(1, 2, 3), nn.Conv2d(4, 5, 3)
    model = nn.Sequential(deep, flat, nn.Linear(3, 2), nn.LazyConv2d(2, 3))
    device.move_model(model, torch.device("cpu"))
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert deep.weight.is_contiguous()


@pytest.mark.parametrize("seed", [0.5, "1", None])
def test_seed_must_be_an_integer(seed: object) -> None:
    with pytest.raises(CifarZooError, match="seed"), seeded(seed):  # type: ignore[arg-type]
        pass


def test_models_that_hide_their_convolutions_run_in_plain_float32_on_a_cpu() -> None:
    compiled, plain = nn.Linear(1, 1), nn.Linear(1, 1)
    compiled.compile()
    gpu = torch.device("cuda")
    assert plain_float32(compiled, CPU)
    assert plain_float32(torch.relu, CPU)
    assert not plain_float32(plain, CPU)
    assert not plain_float32(compiled, gpu)
