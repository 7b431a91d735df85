"""Files that are never half written, and never half read."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import secrets
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["read_object", "replacing", "require_whole_zip"]

PARTIAL = ".partial"
LEFT_SECONDS = 3600.0


@contextlib.contextmanager
def replacing(path: Path, *, verify: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; at the end of the block it takes the place of `path`.

    Whoever reads `path`, whenever the process is killed, finds what was there before or all that
    is new: the content is flushed to the disk before the file is renamed, and its folder after
    that. Of several that write at once, the last one's is there. A killed process leaves its
    temporary file, which the next one deletes (where it can tell, else an hour later). Who may
    read it is the umask's business, however it is written.

    Args:
        path: of the file; its folder is made if it is not there.
        verify: reads the temporary file, before it takes any place, and raises an error if it is
            not whole. None looks at nothing.

    Raises:
        OSError: the file cannot be written; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_left(path)
    writer = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{writer}{PARTIAL}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask wants it; safetensors makes another one
        temporary.unlink()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if temporary.stat().st_mode != mode:
            with contextlib.suppress(OSError):  # some file systems have one mode for all
                temporary.chmod(stat.S_IMODE(mode))
        if verify is not None:
            verify(temporary)
        temporary.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder may be what is wrong
            temporary.unlink()
        raise


def _delete_left(path: Path) -> None:
    """Delete what killed processes left of a file; one that writes has touched its own just now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        with contextlib.suppress(OSError):  # another process may be faster
            if _is_dead(left) or time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_dead(temporary: Path) -> bool:
    """Whether the process that wrote a temporary file is known not to be there any more."""
    host, _, rest = temporary.name.removesuffix(PARTIAL).rpartition(".")[2].partition("-")
    process = rest.partition("-")[0]
    if os.name != "posix" or host != _host() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)  # 0 is no signal: it asks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _flush_folder(folder: Path) -> None:
    """Write a folder's names to the disk, where the system can: else a crash may undo a rename."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):  # some network file systems cannot, some folders are shut
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_whole_zip(path: Path) -> None:
    """Check a zip file, which torch's are, against the checksums in it.

    Raises:
        zipfile.BadZipFile: it is not whole, was changed, or unpacks to more than it has, which
            nothing does that torch wrote.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        is_packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if is_packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise zipfile.BadZipFile("it is compressed, which torch's files are not")
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} was changed")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON (which knows no NaN), is nested too deeply, or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it does not hold an object")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is not JSON")
