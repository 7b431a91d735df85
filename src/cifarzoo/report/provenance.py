"""Where a number comes from: the machine that it ran on and the code that ran."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

import cifarzoo
from cifarzoo.hardware import processor_name, resolve_device, resolve_precision
from cifarzoo.spec import PrecisionName, to_path

__all__ = ["Machine", "Source", "is_committed", "this_machine", "this_source", "weights_label"]

_GIT_TIMEOUT_SECONDS = 20
# Trained weights that were made just now change no result but of what learns from them.
_NOT_CODE = (":(exclude)weights/*.json", ":(exclude)weights/*.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a run was computed on.

    Attributes:
        processor: name of the processor, or of the GPU.
        cores: cores that the process may use.
        threads: that torch computes with.
        device: "cpu", "cuda", …
        precision: of convolutions and matrix products, "float32" or "bfloat16".
    """

    processor: str
    cores: int
    threads: int
    device: str
    precision: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{self.processor}, {cores}, {threads}, {self.device}, {self.precision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The code that ran.

    Attributes:
        commit: of the git checkout that the package ran from; None if it did not.
        dirty: whether the package differed from that commit.
        versions: of Python and of the libraries that a result depends on.
    """

    commit: str | None
    dirty: bool | None
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """The commit in short, marked where the package differed from it, or the version."""
        if self.commit is None:
            return f"version {self.versions.get('cifarzoo', 'unknown')}"
        return f"{self.commit[:10]}{' with changes' if self.dirty else ''}"


def this_machine(device: str | torch.device, precision: PrecisionName) -> Machine:
    """Describe where a run on that device computes.

    Raises:
        OptionError: the device is not there, or the precision is not known.
    """
    target = resolve_device(device)
    return Machine(
        processor=processor_name(target),
        cores=_usable_cores(),
        threads=torch.get_num_threads(),
        device=str(target),
        precision=str(resolve_precision(precision, target)).removeprefix("torch."),
    )


@functools.cache
def this_source() -> Source:
    """Describe the code that is loaded: read once, for files may change while it runs."""
    folder = Path(cifarzoo.__file__).parent
    commit = dirty = None
    # A checkout around an installed package is not the package's own.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--", ".", *_NOT_CODE)
        dirty = None if changes is None else bool(changes)
    versions = {"cifarzoo": cifarzoo.__version__, "python": platform.python_version()}
    libraries = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return Source(commit=commit, dirty=dirty, versions=versions | libraries)


def is_committed(folder: Path) -> bool:
    """Tell whether all that lies in a folder of a checkout is as it was committed."""
    return _git(folder, "status", "--porcelain", "--", ".") == ""


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git(folder: Path, *arguments: str) -> str | None:
    """Give what git prints; None where there is no git, no checkout, or it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def weights_label(weights: str | Path) -> str:
    """Name weights that a model starts from, so that another file of the same name is told apart.

    Args:
        weights: a tag, or a file.

    Returns:
        The tag; or the file's name, without its folder, and the beginning of its hash.
    """
    path = to_path("weights", weights)
    if not path.is_file():
        return str(weights)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{path.name} (SHA-256 {digest[:16]}…)"
