"""Modules import only from lower layers, and importing them has no side effects."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cifarzoo

SOURCE = Path(cifarzoo.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# From the bottom up: a module may import from the lines above its own.
LAYERS = (
    {"errors"},
    {"validation"},
    {"display", "files"},
    {"recipe"},
    {"record"},
    {"card"},
    {"safe_convolutions"},
    {"device"},
    {"download", "provenance"},
    {"models", "data", "arithmetic"},
    {"weights"},
    {"registry"},
    {"hub", "timm"},
    {"evaluation"},
    {"training"},
    {"run"},
    {"viz", "export"},
    {"cli"},
)
FORBIDDEN = {("training", "models"), ("training", "registry"), ("evaluation", "models")}
LAZY = {
    "PIL",
    "filelock",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pooch",
    "pyarrow",
    "requests",
    "rich",
    "safetensors",
    "scipy",
    "torchvision",
    "urllib3",
}
# Methods of `ImageClassifier` call these when they are used.
UPWARDS = {("models", "hub")}
OPTIONAL = {"hub", "timm"}  # need a library that is not always installed
MAY_DOWNLOAD = {"data/cifar.py", "weights.py"}


def module_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "cli" if first == "__main__" else first


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Yield imported names, except those for type checkers; with `at_import`, top-level ones."""
    pending = list(ast.iter_child_nodes(ast.parse(path.read_text(encoding="utf-8"))))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (at_import and isinstance(node, ast.FunctionDef)):
            pending += ast.iter_child_nodes(node)


def test_imports_point_downwards() -> None:
    height = {module: i for i, layer in enumerate(LAYERS) for module in layer}
    wrong = []
    for path in FILES:
        if path.name == "__init__.py" and path.parent == SOURCE:
            continue
        own = module_of(path)
        for name in imports(path):
            parts = name.split(".")
            if (own, parts[-1]) in UPWARDS and name not in imports(path, at_import=True):
                continue
            if parts[0] != "cifarzoo" or len(parts) < 2 or parts[1] in (own, "__version__"):
                continue
            is_public = parts[1] not in height  # a name from the package itself
            if is_public or height[parts[1]] >= height[own] or (own, parts[1]) in FORBIDDEN:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong


def test_slow_libraries_are_imported_where_they_are_used() -> None:
    assert not [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in FILES
        for name in imports(path, at_import=True)
        if name.split(".")[0] in LAZY and module_of(path) != "cli"
    ]


def test_only_two_files_download_and_only_the_command_line_prints() -> None:
    downloading = {
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if any(name.startswith("cifarzoo.download") for name in imports(path))
    }
    assert downloading == MAY_DOWNLOAD
    printing = [
        path
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id == "print"
    ]
    assert {module_of(path) for path in printing} <= {"cli"}


_REPORT = """
import json, sys
seen = []
def watch(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"writes {args[0]}")
    elif event.split(".")[0] in ("socket", "subprocess", "urllib"):
        seen.append(event)
"""


def run_in_fresh_process(code: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _REPORT + code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_importing_the_package_loads_no_dependency() -> None:
    found = run_in_fresh_process("""
import cifarzoo
print(json.dumps({"loaded": sorted({name.split(".")[0] for name in sys.modules})}))
""")
    assert not {"torch", "numpy", "pydantic", *LAZY} & set(found["loaded"])


def test_importing_every_module_touches_no_file_network_or_gpu() -> None:
    modules = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if module_of(path) not in {"cli", *OPTIONAL}
    ]
    found = run_in_fresh_process(f"""
import importlib, torch
state = torch.get_rng_state()
before = set(sys.modules)
sys.addaudithook(watch)
for module in {modules}:
    importlib.import_module(module)
print(json.dumps({{
    "seen": seen,
    "loaded": sorted({{name.split(".")[0] for name in set(sys.modules) - before}}),
    "changed": [] if torch.equal(state, torch.get_rng_state()) else ["random state"],
    "cuda": ["initialised"] if torch.cuda.is_initialized() else [],
}}))
""")
    assert not found["seen"]
    assert not found["changed"]
    assert not found["cuda"]
    assert not LAZY & set(found["loaded"])
