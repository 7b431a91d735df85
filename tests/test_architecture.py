"""Which room may know which: the syntax trees say what a reader would have to check by hand."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import cifarzoo
from cifarzoo import _HOME_OF

SOURCE = Path(cifarzoo.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

NOUNS = {"spec", "errors", "display"}
LOW = NOUNS | {"hardware", "processes"}
WEIGHTS = NOUNS | {"models", "data", "arithmetic"}
BELOW_RUN = LOW | WEIGHTS | {"files", "fetching", "weights", "registry", "training", "evaluation"}
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "display": set(),
    "spec": {"errors", "display"},
    "files": set(),
    "hardware": NOUNS,
    "fetching": {"errors", "hardware"},
    "processes": {"errors"},
    "models": NOUNS | {"files"},
    "arithmetic": NOUNS,
    "data": LOW | {"fetching"},
    "weights": WEIGHTS | {"hardware", "files", "fetching"},
    "registry": WEIGHTS | {"weights"},
    "evaluation": LOW | {"data"},
    "training": LOW | {"files", "data", "evaluation"},
    "run": BELOW_RUN,
    "viz": BELOW_RUN | {"run"},
    "report": BELOW_RUN | {"run", "viz"},
    "cli": BELOW_RUN | {"run", "viz", "report"},
}
HEAVY = {
    "filelock",
    "jinja2",
    "matplotlib",
    "msgspec",
    "PIL",
    "pooch",
    "rich",
    "safetensors",
    "scipy",
    "tensorboard",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "typer",
}
NETWORK = ("ftplib", "http", "pooch", "requests", "socket", "torch.hub", "urllib.request")
DOWNLOADERS = {"data/cifar10.py", "fetching.py", "weights/download.py"}

Import: TypeAlias = tuple[str, int]  # dotted name, line


@dataclass(frozen=True)
class Source:
    """One file: its imports at any depth, and those that happen when it is imported."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(SOURCE).as_posix()

    @property
    def room(self) -> str:
        first = self.path.relative_to(SOURCE).parts[0].removesuffix(".py")
        return "cli" if first == "__main__" else first

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self, *, at_import: bool = False) -> Iterator[Import]:
        for node in _walk(self.tree, into_functions=not at_import):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}:{node.lineno} imports relatively"
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node

    def lines_with(self, names: set[str]) -> Iterator[int]:
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in names:
                yield node.lineno

    def rooms(self) -> Iterator[Import]:
        for name, line in self.imports():
            if name.split(".")[0] == "cifarzoo":
                yield _room_of(name), line


def _walk(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    """Visit all but what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from (other, *_walk(other, into_functions=into_functions))
            continue
        yield child
        if into_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _walk(child, into_functions=into_functions)


def _room_of(name: str) -> str:
    """Give the room of `cifarzoo.x.y`, or of a public name taken from the package."""
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else "__init__"
    if first in _HOME_OF:
        return _HOME_OF[first].split(".")[0]
    return first if first in ALLOWED else "__init__"


SOURCES = [Source(path) for path in FILES]


def test_every_room_has_a_rule() -> None:
    assert {source.room for source in SOURCES} == set(ALLOWED)


def test_room_imports_only_what_lies_below_it() -> None:
    assert not [
        f"{source.name}:{line} imports {room}"
        for source in SOURCES
        for room, line in source.rooms()
        if room not in ALLOWED[source.room] | {source.room, "__init__"}
    ]


def test_heavy_library_is_imported_where_it_is_used() -> None:
    assert not [
        f"{source.name}:{line} imports {name} at its top"
        for source in SOURCES
        for name, line in source.imports(at_import=True)
        if name.split(".")[0] in HEAVY - ({"typer", "rich"} if source.room == "cli" else set())
    ]


def test_only_a_few_files_know_the_network() -> None:
    others = [source for source in SOURCES if source.name not in DOWNLOADERS]
    assert not [
        f"{source.name}:{line} imports {name}"
        for source in others
        for name, line in source.imports()
        if any(f"{name}.".startswith(f"{part}.") for part in NETWORK)
    ]
    assert not [f"{s.name}:{line}" for s in others for line in s.lines_with({"torch.hub"})]


def test_files_that_may_download_are_there_and_do() -> None:
    loaders = {
        source.name
        for source in SOURCES
        if any(name.startswith(("pooch", "cifarzoo.fetching")) for name, _ in source.imports())
    }
    assert loaders == DOWNLOADERS


def test_only_the_command_line_prints() -> None:
    written = {"print", "pprint", "sys.stdout", "sys.stderr.write", "warnings.warn"}
    assert not [
        f"{source.name}:{line}"
        for source in SOURCES
        if source.room != "cli"
        for line in source.lines_with(written)
    ]


def test_sizes_are_computed_without_torch() -> None:
    source = Source(SOURCE / "arithmetic" / "shapes.py")
    assert not [name for name, _ in source.imports() if name.split(".")[0] == "torch"]


def test_parameters_of_public_functions_are_named_one_by_one() -> None:
    """No `**kwargs`: it would swallow a typo."""
    assert not [
        f"{source.name}:{node.lineno} {node.name}(**{node.args.kwarg.arg})"
        for source in SOURCES
        for node in source.functions()
        if node.args.kwarg and not node.name.startswith("_")
    ]


def test_yes_or_no_is_never_a_position() -> None:
    """No boolean traps: a bool parameter is keyword-only; `train(mode)` is torch's own."""
    assert not [
        f"{source.name}:{node.lineno} {node.name}({argument.arg})"
        for source in SOURCES
        if source.room != "cli"  # typer makes flags of them
        for node in source.functions()
        for argument in (*node.args.posonlyargs, *node.args.args)
        if argument.annotation is not None
        and ast.unparse(argument.annotation) == "bool"
        and node.name not in ("train", "_require")
    ]


def test_state_that_all_share_is_not_kept() -> None:
    """No global mutable registry: no function says `global`."""
    assert not [
        s.name for s in SOURCES for node in ast.walk(s.tree) if isinstance(node, ast.Global)
    ]


_WATCH = """
import json, sys
seen = []

def watch(event, args):
    if event == "open":
        path, mode, _ = args
        if isinstance(mode, str) and set(mode) & set("wax+"):
            seen.append(f"writes {path}")
    elif event.split(".")[0] in ("socket", "subprocess", "shutil", "urllib"):
        seen.append(event)
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.system", "ctypes.dlopen"):
        seen.append(f"{event} {args[0]}")

def loaded():
    return sorted({name.split(".")[0] for name in sys.modules})
"""


def _in_a_fresh_process(code: str) -> dict[str, list[str]]:
    finished = subprocess.run(
        [sys.executable, "-c", _WATCH + code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, list[str]] = json.loads(finished.stdout)
    return result


def test_import_of_the_package_loads_nothing_but_itself() -> None:
    found = _in_a_fresh_process("""
import cifarzoo, cifarzoo.spec, cifarzoo.errors
print(json.dumps({"loaded": loaded(), "public": sorted(cifarzoo.__all__) == dir(cifarzoo)}))
""")
    assert "cifarzoo" in found["loaded"]
    assert not (HEAVY | {"numpy", "torch"}) & set(found["loaded"])
    assert found["public"]


def test_import_of_every_room_touches_neither_disk_nor_network_nor_gpu() -> None:
    rooms = sorted(set(ALLOWED) - {"__init__", "cli"})
    found = _in_a_fresh_process(f"""
import random, threading
import numpy as np, torch
state, threads = torch.get_rng_state(), threading.active_count()
chance, dtype, before = random.getstate(), torch.get_default_dtype(), set(loaded())
sys.addaudithook(watch)
import importlib, pkgutil
for room in {rooms}:
    module = importlib.import_module(f"cifarzoo.{{room}}")
    paths = getattr(module, "__path__", [])
    for info in pkgutil.walk_packages(paths, f"cifarzoo.{{room}}."):
        importlib.import_module(info.name)
same = torch.equal(state, torch.get_rng_state()) and chance == random.getstate()
print(json.dumps({{
    "seen": seen,
    "loaded": sorted(set(loaded()) - before),  # torch itself loads tqdm
    "cuda": torch.cuda.is_initialized(),
    "same": same and dtype == torch.get_default_dtype(),
    "threads": threading.active_count() - threads,
}}))
""")
    assert not found["seen"]
    assert not found["cuda"]
    assert found["same"]
    assert not found["threads"]
    assert not HEAVY & set(found["loaded"])
