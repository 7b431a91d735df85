"""Run the examples on CIFAR-10 and keep what they print and draw, for the documentation.

    python docs/record.py                 # all that are not recorded yet, two hours on two cores
    python docs/record.py task2_baseline  # this one, anew

Each record is a folder of docs/recorded: `output.txt`, the pictures, and `record.json`, which says
how and where it ran. The documentation shows them; it runs nothing itself. This is run from a clean
checkout with the package installed in editable mode, so that the commit tells the code.
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
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from cifarzoo.report.provenance import Source, this_machine, this_source

ROOT = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "recorded"
EXAMPLES = {  # and their options; the shortest first
    "task1_arithmetic": "",
    "task2_baseline": "",
    "task4_filters": "--backbone efficientnet_lite0",
    "pictures": "",
    "task3_two_models": "",
    "task4_transfer": "--backbone efficientnet_lite0",
    "task3_best_model": "",
    "task3_batch_norm": "",
    "task3_ablation": "",
}


def command_of(name: str) -> str:
    """Give the command that is recorded."""
    return " ".join(["python", f"examples/{name}.py", *EXAMPLES[name].split()])


def code_hash(name: str) -> str:
    """Hash an example's code, whatever its prose and comments say."""
    tree = ast.parse((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8"))
    return hashlib.sha256(ast.unparse(ast.Module(tree.body[1:], [])).encode()).hexdigest()[:16]


def clean_source() -> Source:
    """Describe the code that is about to run.

    Raises:
        SystemExit: the package or an example differs from the commit.
    """
    source = this_source.__wrapped__()  # read anew: a run of hours may see several commits
    status = ["git", "status", "--porcelain", "--", "src", "examples"]
    changed = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if changed or source.commit is None or source.dirty:
        sys.exit(f"commit first, so that the record's commit tells the code:\n{changed}")
    return source


def keep(name: str) -> None:
    """Run one example, and put its record in the place of the last one."""
    source, code = clean_source(), code_hash(name)
    command = [str(ROOT / command_of(name).split()[1]), *EXAMPLES[name].split()]
    with tempfile.TemporaryDirectory() as work:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command], cwd=work, stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = round(time.perf_counter() - began)
        if done.returncode:
            sys.exit(f"{name} ended with {done.returncode}; it printed:\n{done.stdout}")
        folder, drawn = Path(work, "record"), Path(work, "pictures")
        folder.mkdir()
        in_order = sorted(drawn.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        pictures = dict(smaller(path, folder) for path in in_order)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
        (folder / "output.txt").write_text("\n".join(lines).strip() + "\n", encoding="utf-8")
        record = {
            "command": command_of(name),
            "code": code,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "machine": asdict(this_machine("auto", "auto")),
            "source": asdict(source),
            "pictures": pictures,
        }
        (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(RECORDED / name, ignore_errors=True)
        shutil.copytree(folder, RECORDED / name)
    print(f"{name}: {seconds} s", flush=True)


def smaller(path: Path, folder: Path) -> tuple[str, str]:
    """Write a picture as WebP, without loss and half the size; give its name and what it says."""
    with Image.open(path) as image:
        image.convert("RGB").save(folder / f"{path.stem}.webp", lossless=True, method=6)
        return f"{path.stem}.webp", str(image.info["Description"])


def main() -> None:
    """Record what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", choices=[*EXAMPLES, []], help="default: what is missing"
    )
    names = parser.parse_args().names
    missing = [name for name in EXAMPLES if not (RECORDED / name).exists()]
    for name in names or missing:
        keep(name)


if __name__ == "__main__":
    main()
