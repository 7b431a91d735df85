"""Run the examples and record what they print and plot, for the documentation.

    python docs/record.py                 # all examples that are not recorded yet
    python docs/record.py task2_baseline  # one example, again

Each record is a folder of docs/recorded: `output.txt`, the figures, and `record.json` with the
command, a hash of the example's code and the provenance. The documentation shows them and runs
nothing itself. Examples that train read the recorded runs in results/, so this takes minutes. Task
4b needs the packages that examples/efficientnet_lite0.py names.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from cifarzoo.provenance import provenance

ROOT = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "recorded"
THREE_SEEDS = "--results results --seeds 0,1,2"
EXAMPLES = {  # and their options
    "task1_arithmetic": "",
    "task2_baseline": THREE_SEEDS,
    "task3_two_models": THREE_SEEDS,
    "task3_ablation": THREE_SEEDS,
    "task3_batch_norm": THREE_SEEDS,
    "task3_best_model": THREE_SEEDS,
    "task4_transfer": f"--backbone efficientnet_lite0 {THREE_SEEDS}",
    "task4_filters": "--backbone efficientnet_lite0",
    "pictures": "",
}


def command_of(name: str) -> str:
    """Return the command that is recorded."""
    return " ".join(["python", f"examples/{name}.py", *EXAMPLES[name].split()])


def code_hash(name: str) -> str:
    """Hash an example's code without its prose and comments."""
    tree = ast.parse((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    return hashlib.sha256(ast.unparse(ast.Module(tree.body[1:], [])).encode()).hexdigest()[:16]


def record(name: str) -> None:
    """Run one example and replace its record."""
    with tempfile.TemporaryDirectory() as work:
        drawn, folder = Path(work, "drawn"), Path(work, "record")
        command = [sys.executable, *command_of(name).split()[1:], "--out", str(drawn)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} exited with {done.returncode}; it printed:\n{done.stdout}")
        folder.mkdir()
        in_order = sorted(drawn.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        pictures = dict(convert(path, folder) for path in in_order)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
        (folder / "output.txt").write_text("\n".join(lines).strip() + "\n", encoding="utf-8")
        content = {
            "command": command_of(name),
            "code": code_hash(name),
            "pictures": pictures,
            "provenance": asdict(provenance()),
        }
        (folder / "record.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(RECORDED / name, ignore_errors=True)
        shutil.copytree(folder, RECORDED / name)
    print(name, flush=True)


def convert(path: Path, folder: Path) -> tuple[str, str]:
    """Write a figure as lossless WebP, half the size; return its name and description."""
    with Image.open(path) as image:
        image.convert("RGB").save(folder / f"{path.stem}.webp", lossless=True, method=6)
        return f"{path.stem}.webp", str(image.info["Description"])


def main() -> None:
    """Record the chosen examples."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXAMPLES))
    names = parser.parse_args().names
    if unknown := set(names) - EXAMPLES.keys():
        parser.error(f"unknown example {', '.join(unknown)}")
    for name in names or [name for name in EXAMPLES if not (RECORDED / name).exists()]:
        record(name)


if __name__ == "__main__":
    main()
