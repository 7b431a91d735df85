"""Shell completion of models and tags."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifarzoo import list_models, model_card
from cifarzoo.cli.completion import RECIPES


def test_every_model_and_recipe_can_be_completed() -> None:
    assert {name: tuple(model_card(name).recipes) for name in list_models()} == RECIPES


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tra", ["train"]),
        ("train resnet2", ["resnet20"]),
        ("evaluate report_b", ["report_baseline", "report_best"]),
        ("compare tiny", ["tiny_m", "tiny_s"]),
        ("train resnet20 --recipe ", ["standard", "long", "distilled"]),
        ("predict resnet20 --weights ", ["default", "long", "standard"]),
        ("train tiny_s --weights st", ["standard"]),
    ],
)
def test_bash_completes_without_importing_torch(
    words: str, expected: list[str], tmp_path: Path
) -> None:
    """Run the script that `--show-completion` prints, as Tab does."""
    bash = shutil.which("bash")
    if bash is None or os.name == "nt":  # where scripts do not name their interpreter
        pytest.skip("needs bash")
    program = tmp_path / "cifarzoo"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.modules['torch'] = None\n"
        "from cifarzoo.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    typed = f"cifarzoo {words}".split(" ")
    script = (
        'eval "$(cifarzoo --show-completion bash)"\n'
        f"COMP_WORDS=({' '.join(typed[:-1])} '{typed[-1]}'); COMP_CWORD={len(typed) - 1}\n"
        "$(complete -p cifarzoo | sed 's/.*-F \\([^ ]*\\).*/\\1/') cifarzoo\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == expected, done.stderr
