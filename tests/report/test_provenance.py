from __future__ import annotations

import platform
from pathlib import Path
from subprocess import run

import pytest
import torch

import cifarzoo
from cifarzoo import OptionError
from cifarzoo.report.provenance import Machine, Source, this_machine, this_source

source_now = this_source.__wrapped__  # without its memory of the first answer


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout that holds the package, with one commit."""
    package = tmp_path / "src" / "cifarzoo"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(cifarzoo, "__file__", str(package / "__init__.py"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    return tmp_path


def test_checkout_gives_its_commit(checkout: Path) -> None:
    found = source_now()
    assert found.commit is not None
    assert len(found.commit) == 40
    assert found.dirty is False
    assert found.label == found.commit[:10]


def test_changed_package_is_marked(checkout: Path) -> None:
    (checkout / "results.txt").write_text("a file elsewhere changes nothing")
    assert source_now().dirty is False
    (checkout / "src" / "cifarzoo" / "__init__.py").write_text("changed = True")
    found = source_now()
    assert found.dirty is True
    assert found.label.endswith(" with changes")


def test_weights_that_were_just_made_are_no_change(checkout: Path) -> None:
    folder = checkout / "src" / "cifarzoo" / "weights"
    folder.mkdir()
    for name in ("a-default.json", "a-default.safetensors"):
        (folder / name).write_text("new")
    assert source_now().dirty is False
    (folder / "loading.py").write_text("")
    assert source_now().dirty is True


def test_package_that_git_does_not_track_has_no_commit(checkout: Path) -> None:
    run(["git", "-C", str(checkout), "rm", "-q", "--cached", "-r", "."], check=True)
    found = source_now()
    assert (found.commit, found.dirty) == (None, None)
    assert found.label == f"version {cifarzoo.__version__}"


def test_no_git_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_now().commit is None


def test_versions_are_those_that_are_loaded() -> None:
    versions = source_now().versions
    assert versions["cifarzoo"] == cifarzoo.__version__
    assert versions["python"] == platform.python_version()
    assert versions["torch"].startswith(torch.__version__.split("+")[0])
    assert {"torchvision", "numpy"} < set(versions)


def test_machine_says_what_is_used() -> None:
    found = this_machine("cpu", "float32")
    assert (found.device, found.precision) == ("cpu", "float32")
    assert found.threads == torch.get_num_threads()
    assert found.cores >= 1
    assert found.processor


def test_machine_reads_as_a_line() -> None:
    machine = Machine(processor="P", cores=1, threads=2, device="cpu", precision="bfloat16")
    assert str(machine) == "P, 1 core, 2 threads, cpu, bfloat16"


def test_unknown_device_is_refused() -> None:
    with pytest.raises(OptionError, match="abacus"):
        this_machine("abacus", "auto")


def test_source_without_versions_has_a_label() -> None:
    assert Source(commit=None, dirty=None, versions={}).label == "version unknown"
