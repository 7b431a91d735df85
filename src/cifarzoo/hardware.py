"""Where a computation runs: device, precision, memory, random state."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import sys
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import get_args

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cifarzoo.errors import OptionError, one_of
from cifarzoo.spec import PrecisionName

__all__ = [
    "autocast",
    "cpu_has_amx",
    "cpu_multiplies_bfloat16_faster",
    "device_rng_state",
    "is_watched",
    "keep_freed_memory",
    "move_model",
    "processor_name",
    "reseed",
    "resolve_device",
    "resolve_precision",
    "seeded",
    "set_device_rng_state",
]

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_BYTES = -1  # never trim; a threshold could not be over 2 GiB
_TOP_PAD_BYTES = 64 * 2**20

AMD = "AuthenticAMD"  # as its processors name their maker


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a device's name into a device that is there.

    Args:
        device: "auto" (CUDA, else MPS, else the CPU), or what `torch.device` takes.

    Raises:
        OptionError: torch does not know the name, or the device is not there.
    """
    if device == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else name)
    try:
        found = torch.device(device)
        torch.empty(0, device=found).cpu()  # fails on "meta", where nothing is computed
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        if reason.startswith("Expected one of"):  # and all devices that there ever were
            reason = "there is no such device"
        raise OptionError(
            f"device {str(device)!r} cannot be used ({reason}); allowed: auto, cpu, and cuda or "
            "mps where there is one"
        ) from error
    return found


def move_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, its convolutions' weights channels_last."""
    model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        if not is_lazy(tensor) and tensor.ndim == 4:  # `model.to` would refuse other kinds
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def cpu_multiplies_bfloat16_faster() -> bool:
    """Tell whether this processor multiplies bfloat16 matrices faster than float32 ones.

    That takes matrix units, AMX on x86 or BFMMLA on Arm, or the dot product of AVX-512 on a
    processor of AMD. On Intel's, that dot product alone is no faster than float32's two fused
    multiply-adds.
    """
    known = _cpu_capabilities()
    return bool(known & {"amx_bf16", "bf16", "sve_bf16"}) or {"avx512_bf16", AMD} <= known


def cpu_has_amx() -> bool:
    """Tell whether this processor has AMX: bfloat16 matrix products in tiles of 16 by 32."""
    return "amx_bf16" in _cpu_capabilities()


@functools.cache
def _cpu_capabilities() -> frozenset[str]:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        maker = [AMD] if str(found.get("cpu_name")).startswith("AMD ") else []
        return frozenset([*maker, *(key for key, value in found.items() if value is True)])
    cpuinfo = Path("/proc/cpuinfo")  # torch before 2.9 does not tell
    return frozenset(cpuinfo.read_text(errors="replace").split() if cpuinfo.is_file() else ())


def resolve_precision(precision: PrecisionName, device: torch.device) -> torch.dtype:
    """Choose the type that convolutions and matrix products are computed in.

    Args:
        precision: "auto" takes bfloat16 only where the device is faster in it.
        device: where the computation runs.

    Returns:
        torch.float32 or torch.bfloat16.

    Raises:
        OptionError: another name.
    """
    if precision not in get_args(PrecisionName):
        raise one_of("precision", precision, get_args(PrecisionName))
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cpu":
        is_faster = cpu_multiplies_bfloat16_faster()
    else:
        is_faster = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if is_faster else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Give the context in which `dtype` is used; for float32 it turns an outer one off."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def is_watched() -> bool:
    """Tell whether progress is shown to somebody, in a terminal or a notebook, and not to a log."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@functools.cache
def keep_freed_memory() -> bool:
    """Ask glibc to keep memory that a training step frees, for the next step to use.

    By default every large tensor is mapped anew from the system and its pages are cleared again
    at each step. This holds for the whole process and cannot be undone in it; set the environment
    variable CIFARZOO_KEEP_MEMORY=0 to leave the allocator alone.

    Returns:
        Whether the allocator took the settings; False where there is no glibc.
    """
    if os.environ.get("CIFARZOO_KEEP_MEMORY", "1") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        _M_MMAP_MAX: 0,
        _M_TRIM_THRESHOLD: _KEEP_BYTES,
        _M_TOP_PAD: _TOP_PAD_BYTES,
    }
    accepted = [mallopt(option, value) == 1 for option, value in settings.items()]
    return all(accepted)


def device_rng_state(device: torch.device) -> torch.Tensor | None:
    """Give the state of a GPU's random numbers; None for the CPU, whose state is torch's own."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_device_rng_state(device: torch.device, state: torch.Tensor | None) -> None:
    """Put back what `device_rng_state` gave on a device of the same kind."""
    if state is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    if state is not None and device.type == "mps":
        torch.mps.set_rng_state(state)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's random state inside the block and put the old state back after it.

    Args:
        seed: whole number, 0 to 2**63 - 1.
        device: an accelerator whose generator is seeded beside the CPU's; others are let be.

    Raises:
        OptionError: the seed is not allowed.
    """
    given: object = seed  # it may be one of numpy's numbers
    if not isinstance(given, Integral) or not 0 <= int(given) < 2**63:
        raise OptionError(f"seed is {given!r}; allowed: whole numbers, 0 to 2**63 - 1")
    seed = int(given)
    accelerators = [device] if device is not None and device.type in ("cuda", "mps") else []
    kind = accelerators[0].type if accelerators else "cuda"
    with torch.random.fork_rng(devices=accelerators, device_type=kind):
        reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device | None) -> None:
    """Seed torch's generators of the CPU and of one accelerator, and no other."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
    if device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@functools.cache
def processor_name(device: torch.device | None = None) -> str:
    """Name the processor, or the GPU of `device`, as its maker does."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
