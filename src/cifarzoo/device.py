"""Device, precision, memory allocator and random state."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parameter import is_lazy

from cifarzoo.errors import InvalidValueError
from cifarzoo.recipe import PrecisionName
from cifarzoo.safe_convolutions import SafeConvolutions
from cifarzoo.validation import Seed, validate

__all__ = [
    "autocast",
    "cpu_has_amx",
    "cpu_multiplies_bfloat16_faster",
    "is_compiled",
    "is_interactive",
    "is_opaque",
    "plain_float32",
    "keep_freed_memory",
    "move_model",
    "processor_name",
    "reseed",
    "resolve_device",
    "resolve_precision",
    "rng_state",
    "seconds_between_updates",
    "seeded",
    "set_rng_state",
]

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_BYTES = -1  # never trim; a threshold is limited to 2 GiB
_TOP_PAD_BYTES = 64 * 2**20

_MOVING = threading.Lock()

AMD = "AuthenticAMD"  # vendor string in /proc/cpuinfo


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a device that is available.

    Args:
        device: "auto" (CUDA, else MPS, else the CPU), or anything that `torch.device` accepts. As
            MPS cannot exchange gradients, "auto" is the CPU for several processes on a Mac.

    Raises:
        InvalidValueError: the device does not exist or cannot be used.
    """
    if device == "auto":
        joined = distributed.is_available() and distributed.is_initialized()
        name = "mps" if torch.backends.mps.is_available() and not joined else "cpu"
        return torch.device("cuda" if torch.cuda.is_available() else name)
    try:
        found = torch.device(device)
        torch.empty(0, device=found).cpu()  # fails on "meta", which cannot compute
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        if reason.startswith("Expected one of"):  # followed by dozens of backends
            reason = "no such device"
        raise InvalidValueError(
            f"device {str(device)!r} is not available ({reason}): expected auto, cpu, cuda or mps"
        ) from error
    return found


@torch.inference_mode(mode=False)  # which would leave tensors that cannot be trained
def move_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, with convolution weights in channels_last layout.

    Nothing is written if the model is there: other threads may be using it. The layout of models
    that need `plain_float32` is left alone.
    """
    target = torch.empty(0, device=device).device  # with the index of a GPU
    with _MOVING:
        tensors = (*model.parameters(), *model.buffers())
        if any(tensor.device != target for tensor in tensors):
            model.to(target)
        if plain_float32(model, target):
            return
        for tensor in (*model.parameters(), *model.buffers()):
            # `model.to(memory_format=...)` rejects 5-D
            if not is_lazy(tensor) and tensor.ndim == 4 and not _is_channels_last(tensor):
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def plain_float32(model: object, device: torch.device) -> bool:
    """Return whether a model has to run in float32 and contiguous layout.

    On a CPU, a model does whose convolutions `autocast` cannot see.
    """
    return device.type == "cpu" and is_opaque(model)


def is_opaque(model: object) -> bool:
    """Return whether a model is a function, or a part of it is compiled, scripted or traced."""
    return not isinstance(model, nn.Module) or any(
        isinstance(module, torch.jit.ScriptModule) or is_compiled(module)
        for module in model.modules()
    )


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is compiled, by `torch.compile` or in place."""
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return in_place or hasattr(module, "_orig_mod")


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


def cpu_multiplies_bfloat16_faster() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices faster than float32 matrices.

    This requires oneDNN, which torch lacks on macOS, and matrix units (AMX on x86, BFMMLA on Arm),
    or AVX-512's bfloat16 dot product on AMD. On Intel, that instruction alone is no faster than two
    float32 fused multiply-adds.
    """
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    known = _cpu_capabilities() if has_onednn else frozenset()
    return bool(known & {"amx_bf16", "bf16", "sve_bf16"}) or {"avx512_bf16", AMD} <= known


def cpu_has_amx() -> bool:
    """Return whether the CPU has AMX: bfloat16 matrix products in tiles of 16 by 32."""
    return "amx_bf16" in _cpu_capabilities()


@functools.cache
def _cpu_capabilities() -> frozenset[str]:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        maker = [AMD] if str(found.get("cpu_name")).startswith("AMD ") else []
        return frozenset([*maker, *(key for key, value in found.items() if value is True)])
    cpuinfo = Path("/proc/cpuinfo")  # for torch before 2.9
    return frozenset(
        cpuinfo.read_text(encoding="utf-8", errors="replace").split() if cpuinfo.is_file() else ()
    )


def resolve_precision(precision: PrecisionName, device: torch.device) -> torch.dtype:
    """Return the dtype of convolutions and matrix products.

    Args:
        precision: "float32", "bfloat16", or "auto" for bfloat16 where the device is faster in it
            and float32 elsewhere.
        device: device of the computation.

    Returns:
        torch.float32 or torch.bfloat16.

    Raises:
        InvalidValueError: the precision is unknown.
    """
    validate("precision", precision, PrecisionName)
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cpu":
        is_faster = cpu_multiplies_bfloat16_faster()
    else:
        is_faster = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if is_faster else torch.float32


@contextlib.contextmanager
def autocast(
    device: torch.device, dtype: torch.dtype, model: object
) -> Iterator[SafeConvolutions | None]:
    """Compute convolutions and matrix products in `dtype`; float32 disables an enclosing autocast.

    On a CPU, convolutions that would be wrong in this precision are computed in float32, by a mode
    that is yielded, unless the model is `is_opaque`.
    """
    with contextlib.ExitStack() as stack:
        # An enclosing autocast would keep the cache, and with it the weights of earlier steps.
        enabled = dtype == torch.bfloat16
        stack.enter_context(
            torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
        )
        is_guarded = device.type == "cpu" and not is_opaque(model)
        yield stack.enter_context(SafeConvolutions()) if is_guarded else None


def seconds_between_updates() -> float:
    """Return how often a progress bar is drawn: in a log file, a line a minute."""
    return 0.1 if is_interactive() else 60


def is_interactive() -> bool:
    """Return whether stderr is a terminal or a notebook rather than a log file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@functools.cache
def keep_freed_memory() -> bool:
    """Configure glibc to reuse freed memory instead of returning it to the system.

    By default the pages of every large tensor are mapped and zeroed again at each step; training is
    1.5 times as fast without this. The setting applies to the whole process. The environment
    variable CIFARZOO_KEEP_MEMORY=0 disables it.

    Returns:
        Whether the allocator accepted the settings; False without glibc.
    """
    # Elsewhere `libc_ver` would search Python's executable, which Windows may forbid to read.
    has_glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    if os.environ.get("CIFARZOO_KEEP_MEMORY", "1") == "0" or not has_glibc:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _KEEP_BYTES, _M_TOP_PAD: _TOP_PAD_BYTES}
    accepted = [mallopt(option, value) == 1 for option, value in settings.items()]
    return all(accepted)


def rng_state(device: torch.device | None) -> dict[str, Any]:
    """Return the global random state of Python, NumPy, torch and one accelerator."""
    numpy: Any = np.random.get_state()  # noqa: NPY002 - models may use it
    algorithm, words, *position = numpy
    state = {
        "python": random.getstate(),
        "numpy": (algorithm, words.tolist(), *position),
        "torch": torch.get_rng_state(),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device is not None and device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(device: torch.device | None, state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned for a device of the same type."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and device is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed Python, NumPy and torch within the block and restore their random state after it.

    Args:
        seed: 0 to 2**63 - 1.
        device: accelerator to seed as well.

    Raises:
        InvalidValueError: the seed is out of range.
    """
    seed = validate("seed", seed, Seed)
    before = rng_state(device)
    reseed(seed, device)
    try:
        yield
    finally:
        set_rng_state(device, before)


def reseed(seed: int, device: torch.device | None) -> None:
    """Seed the global generators of Python, NumPy, torch and one accelerator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
    if device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@functools.cache
def processor_name(device: torch.device | None = None) -> str:
    """Return the model name of the CPU, or of the GPU if `device` is one."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    # Arm's cpuinfo has no name, and Windows and macOS have no cpuinfo.
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(found.get("cpu_name") or platform.processor() or platform.machine())
