"""`cifarzoo train`: its files, how it resumes, and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import Result

from cifarzoo import History, Run, build_model, evaluate
from cifarzoo.cli.training import show
from cifarzoo.errors import NonFiniteLossError
from cifarzoo.run import load_data, load_runs
from cifarzoo.weights import read_metadata

Call = Callable[..., Result]
Tiny = tuple[str, ...]

FINISHED = {"weights.safetensors", "run.json", "curves.png", "predictions.png"}
LONGER = (
    *("--data", "shapes", "--limit", "200", "--batch-size", "10", "--epochs", "6"),
    *("--device", "cpu", "--quiet"),
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_finished_run_leaves_weights_record_and_figures(trained: Path) -> None:
    assert set(contents(trained)) == FINISHED
    for name in ("curves.png", "predictions.png"):
        with Image.open(trained / name) as image:
            assert min(image.size) > 300
    run = Run.load(trained)
    assert (run.name, run.data, run.limit) == ("report_baseline", "shapes", 100)
    assert [score.n for score in (run.train, run.val, run.test) if score] == [90, 10, 100]
    metadata = read_metadata(trained / "weights.safetensors")
    assert metadata == {"model": "report_baseline", "data": "shapes"}
    test = evaluate(run.model, load_data("shapes", run.recipe, limit=100).test)
    assert run.test is not None
    assert (test.loss, test.accuracy) == (run.test.loss, run.test.accuracy)


def test_finished_run_is_shown_and_not_trained_again(call: Call, tiny: Tiny, trained: Path) -> None:
    before = contents(trained)
    result = call("train", "report_baseline", *tiny, "--out", trained)
    assert "--fresh" in result.stderr
    assert f"evaluate report_baseline --weights {trained}" in result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert (rows["training"][-1], rows["test"][-1]) == ("90", "100")
    assert contents(trained) == before


def test_next_command_can_be_pasted_into_every_shell(
    tmp_path: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, folder = Run.load(trained), tmp_path / "my runs"
    for system, quote in (("linux", "'"), ("win32", '"')):
        monkeypatch.setattr(sys, "platform", system)
        show(run, folder, cards=(), quiet=False)
        weights = folder / "weights.safetensors"
        assert f"--weights {quote}{weights}{quote}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--lr", "0.5"), "lr 0.05, not 0.5"),
        (("--limit", "50"), "limit 100, not 50"),
        (("--weights", "standard"), "initial_weights none, not standard"),
    ],
)
def test_folder_of_another_run_is_refused(
    call: Call, tiny: Tiny, trained: Path, options: Tiny, difference: str
) -> None:
    before = contents(trained)
    result = call("train", "report_baseline", *tiny, *options, "--out", trained, code=1)
    assert difference in result.stderr
    assert "--fresh" in result.stderr
    assert contents(trained) == before


def test_finished_run_can_be_scored_with_tta(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    before = Run.load(out)
    for tta in ("flip", "flip_translate", "none"):
        result = call("train", "report_baseline", *tiny, "--out", out, "--tta", tta)
    assert "test, flip_translate" in result.stdout
    after = Run.load(out)
    assert after.test_tta is not None
    assert after.test_tta.tta == "flip_translate"
    assert after.replace(test_tta=None).to_json() == before.to_json()


@pytest.mark.muon
def test_recipe_is_selected_by_tag_and_named_in_the_folder(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", "shapes", "--limit", "60", "--epochs", "1", "--batch-size", "20", "-q")
    call("train", "resnet20", "--recipe", "long", *options, "--seed", "3", "--tta", "flip")
    run = Run.load(Path("runs", "resnet20-long-shapes-seed3"))
    assert (run.seed, run.recipe.epochs) == (3, 1)
    assert run.test_tta is not None


def test_each_seed_has_a_subfolder(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    options = (*tiny, "--seeds", "1,0", "--out", tmp_path / "runs", "--tensorboard", logs)
    result = call("train", "report_baseline", *options)
    assert "epoch 1.00: training" in result.stderr
    runs = load_runs(tmp_path / "runs")
    assert [run.seed for run in runs] == [0, 1]
    assert {path.name for path in logs.iterdir()} == {"seed0", "seed1"}
    scores = [100 * run.test.accuracy for run in runs if run.test]
    mean, std = statistics.fmean(scores), statistics.stdev(scores)
    assert f"2 seeds: test accuracy {mean:.2f}% ± {std:.2f}%" in result.stdout
    assert "expected one of them" in call("train", "tiny_s", *options, "--seed", 3, code=2).stderr


def test_fresh_replaces_the_files_of_a_run_and_no_others(
    call: Call, tiny: Tiny, tmp_path: Path
) -> None:
    for name in ("weights.safetensors", "best.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"old")
    options = (*tiny, "--out", tmp_path)
    refused = call("train", "report_baseline", *options, code=1)
    assert "weights.safetensors, best.safetensors, but no run.json" in refused.stderr
    assert set(contents(tmp_path).values()) == {b"old"}
    call("train", "report_baseline", *options, "--fresh")
    assert set(contents(tmp_path)) == {*FINISHED, "notes.txt"}
    assert (tmp_path / "notes.txt").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--weights", "nowhere.safetensors"), 1),
        (("--data", "cifar10", "--no-download", "--root", "nowhere"), 1),
        (("--device", "cuda:99"), 2),
        (("--batch-size", "500"), 2),
        (("--lr", "0"), 2),
        (("--recipe", "nope"), 2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_run_that_cannot_start_writes_and_deletes_nothing(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path, option: Tiny, code: int
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    for folder in (tmp_path / "new", out):
        call("train", "report_baseline", *tiny, *option, "--out", folder, "--fresh", code=code)
    assert not (tmp_path / "new").exists()
    assert contents(out) == contents(trained)


def test_fresh_keeps_the_weights_to_start_from(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    start = out / "weights.safetensors"
    result = call(
        "train", "report_baseline", *tiny, "--weights", start, "--out", out, "--fresh", code=2
    )
    assert f"--fresh would delete {start}" in result.stderr
    assert contents(out) == contents(trained)


@pytest.mark.parametrize("best_step", [0, 3])
def test_diverged_run_leaves_its_best_state_unless_that_is_random(
    call: Call, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_step: int
) -> None:
    model = build_model("report_baseline")

    def diverge(*_: object, **__: object) -> None:
        history = History(
            checks=(), best_step=best_step, stopped="diverged", steps=5, images=100, seconds=1.0
        )
        error = NonFiniteLossError("the loss is not finite", history)
        error.model = model
        raise error

    monkeypatch.setattr("cifarzoo.run.train", diverge)
    result = call("train", "report_baseline", *tiny, "--out", tmp_path, code=1)
    assert "not finite" in result.stderr
    assert set(contents(tmp_path)) == ({"best.safetensors"} if best_step else set())
    if best_step:
        kept = build_model("report_baseline", weights=tmp_path / "best.safetensors")
        torch.testing.assert_close(kept.state_dict(), model.state_dict())


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _listen_to_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(out: Path) -> subprocess.Popen[str]:
    """Start a training process and wait until it writes a checkpoint."""
    before = written(out / "checkpoint.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "cifarzoo", "train", "report_baseline", *LONGER, "--out", out],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell lets commands in the background ignore Ctrl-C.
        preexec_fn=None if os.name == "nt" else _listen_to_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while written(out / "checkpoint.pt") == before:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C would reach the tests as well")
def test_stopped_run_resumes_to_the_same_weights(call: Call, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    call("train", "report_baseline", *LONGER, "--out", whole)
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = started(out)
        process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
        assert process.returncode == code, stderr
        assert stderr == ("interrupted\n" if code == 130 else "")
        assert not FINISHED & set(contents(out))
    call("train", "report_baseline", *LONGER, "--out", out)
    assert set(contents(out)) == FINISHED
    runs = Run.load(whole), Run.load(out)
    assert runs[0].weights_sha256 == runs[1].weights_sha256
    assert len(runs[1].earlier_parts) == 2


def test_second_command_in_a_folder_is_refused_while_the_first_trains(
    call: Call, tmp_path: Path
) -> None:
    process = started(tmp_path)
    for options in ((), ("--fresh",), ("--lr", "0.1")):
        result = call("train", "report_baseline", *LONGER, *options, "--out", tmp_path, code=1)
        assert f"another command is training in {tmp_path}" in result.stderr
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert set(contents(tmp_path)) == FINISHED
    call("train", "report_baseline", *LONGER, "--out", tmp_path)


def test_checkpoint_of_other_settings_is_refused_with_advice(call: Call, tmp_path: Path) -> None:
    process = started(tmp_path)
    process.kill()
    process.communicate()
    options = (*LONGER, "--lr", "0.1", "--out", str(tmp_path))
    result = call("train", "report_baseline", *options, code=1)
    assert "--out" in result.stderr
    assert "--fresh" in result.stderr
    assert "recipe.lr was 0.05, is 0.1" in result.stderr


def test_limit_below_the_batch_size_is_explained(call: Call) -> None:
    options = ("--data", "shapes", "--limit", "50")
    result = call("train", "report_baseline", *options, code=2)
    assert "--limit 50 leaves 45 training images" in result.stderr
    assert "--batch-size 45" in result.stderr


def test_run_is_finished_even_if_its_pictures_cannot_be_drawn(tiny: Tiny, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifarzoo", "train", "report_baseline", *tiny, "--out", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={**environment(), "MPLBACKEND": "nonsense"},
    )
    assert "test" in done.stdout
    assert "Traceback" not in done.stderr
    assert {"weights.safetensors", "run.json"} <= set(contents(tmp_path))
    assert Run.load(tmp_path).test is not None


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")


@pytest.mark.skipif(os.name == "nt", reason="torchrun needs libuv")
def test_two_processes_train_together(tmp_path: Path, tiny: Tiny) -> None:
    options = (*tiny, "--device", "cpu", "--precision", "float32", "--out", str(tmp_path))
    command = [*TORCHRUN, "-m", "cifarzoo", "train", "report_baseline", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert done.stdout.count("training") == 1  # one process prints
    assert set(contents(tmp_path)) == FINISHED
    run = Run.load(tmp_path)
    test = load_data("shapes", run.recipe, limit=100).test
    assert run.test is not None
    assert run.test.loss == pytest.approx(evaluate(run.model, test, device="cpu").loss, rel=1e-5)
    assert (run.test.n, run.val.n if run.val else 0) == (100, 10)
