"""Provenance of a result: the machine that computed it and the code that ran."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

import cifarzoo
from cifarzoo.device import processor_name, resolve_device, resolve_precision
from cifarzoo.recipe import PrecisionName
from cifarzoo.record import Provenance

__all__ = ["provenance"]

_GIT_TIMEOUT_SECONDS = 20
_NO_WEIGHTS = ":(exclude)pretrained"  # new weights do not change the code


def provenance(
    device: str | torch.device = "auto", precision: PrecisionName = "auto"
) -> Provenance:
    """Describe the machine and the code of this process.

    Args:
        device: as in `fit`.
        precision: as in `fit`.

    Raises:
        InvalidValueError: no such device or precision.
    """
    target = resolve_device(device)
    commit, dirty = _commit()
    libraries = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return Provenance(
        processor=processor_name(target),
        cores=_usable_cores(),
        threads=torch.get_num_threads(),
        device=str(target),
        precision="bfloat16" if resolve_precision(precision, target).itemsize == 2 else "float32",
        commit=commit,
        dirty=dirty,
        versions={
            "cifarzoo": cifarzoo.__version__,
            "python": platform.python_version(),
            **libraries,
        },
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@functools.cache  # files may change after the code was loaded
def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that contains this package, and whether it is modified."""
    folder = Path(__file__).parent
    # A checkout around an installed package does not track the package's files.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = _git(folder, "status", "--porcelain", "--", ".", _NO_WEIGHTS)
    return _git(folder, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output; None without git or a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=_GIT_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
