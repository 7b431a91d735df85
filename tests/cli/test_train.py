"""`cifarzoo train`: what it writes, what it says, how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import Result

from cifarzoo import History, NonFiniteLossError, build_model
from cifarzoo.cli.folder import RunFolder
from cifarzoo.cli.outcome import write_best

Call: TypeAlias = Callable[..., Result]
Tiny: TypeAlias = tuple[str, ...]

LONGER = ("--data", "shapes", "--limit", "200", "--batch-size", "10", "--epochs", "6", "--quiet")


def test_run_leaves_weights_record_and_pictures(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names == {"weights.safetensors", "run.json", "curves.png", "predictions.png"}
    for picture in ("curves.png", "predictions.png"):
        with Image.open(trained / picture) as image:
            assert min(image.size) > 300


def test_record_holds_settings_history_and_scores(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["settings"]["model"] == "report_baseline"
    assert record["settings"]["recipe"]["epochs"] == 1
    assert record["params"] == 390_410
    assert record["history"]["stopped"] == "epochs"
    assert len(record["history"]["checks"]) == 2
    assert record["scores"].pop("test_tta") is None
    assert {split: score["n"] for split, score in record["scores"].items()} == {
        "train": 90,
        "val": 10,
        "test": 100,
    }
    assert len(record["scores"]["test"]["per_class"]) == 10
    assert record["environment"]["source"]["versions"]["torch"] == torch.__version__.split("+")[0]


def test_weights_fit_the_model_and_say_what_they_are(trained: Path) -> None:
    path = trained / "weights.safetensors"
    build_model("report_baseline", weights=path)
    with safe_open(path, "pt") as file:
        notes = json.loads(file.metadata()["cifarzoo"])
    assert len(notes.pop("tensors_sha256")) == 64
    assert notes == {"model": "report_baseline", "data": "shapes"}


def test_repetition_says_that_it_was_finished(call: Call, tiny: Tiny, trained: Path) -> None:
    before = (trained / "weights.safetensors").stat().st_mtime_ns
    result = call("train", "report_baseline", *tiny, "--out", trained)
    assert result.exit_code == 0
    assert "was finished on" in result.stderr
    assert "--fresh" in result.stderr
    assert "Next: cifarzoo evaluate report_baseline --weights" in result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert rows["test"][-1] == "100"
    assert rows["training"][-1] == "90"
    assert (trained / "weights.safetensors").stat().st_mtime_ns == before


def test_other_settings_are_refused_and_nothing_is_lost(
    call: Call, tiny: Tiny, trained: Path
) -> None:
    result = call("train", "report_baseline", *tiny, "--lr", "0.5", "--out", trained)
    assert result.exit_code == 1
    assert "recipe.lr: 0.05 in the file, 0.5 now" in result.stderr
    assert (trained / "weights.safetensors").is_file()


def scores_of(out: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((out / "run.json").read_text())["scores"]
    return scores


def labels_in(table: str) -> list[str]:
    return [line.split("  ")[0] for line in table.splitlines() if line][2:]


def test_views_are_a_row_of_their_own(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    options = (*tiny, "--out", tmp_path, "--tta", "flip_translate", "--quiet")
    result = call("train", "report_baseline", *options)
    assert result.exit_code == 0, result.stderr
    assert labels_in(result.stdout) == ["training", "validation", "test", "test, flip_translate"]
    scores = scores_of(tmp_path)
    assert (scores["test"]["tta"], scores["test_tta"]["tta"]) == ("none", "flip_translate")
    assert scores["test_tta"]["n"] == 100
    assert scores["test_tta"]["loss"] != scores["test"]["loss"]
    assert call("train", "report_baseline", *options).stdout == result.stdout


def test_finished_run_is_scored_again_but_not_trained_again(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    record, weights = out / "run.json", (out / "weights.safetensors").read_bytes()
    before = json.loads(record.read_text())
    del before["scores"]["test_tta"]  # as older versions wrote it
    record.write_text(json.dumps(before))
    options = (*tiny, "--out", out)
    for tta in ("flip", "flip_translate"):
        result = call("train", "report_baseline", *options, "--tta", tta)
        assert result.exit_code == 0, result.stderr
        assert f"Scoring its test set with {tta} test-time augmentation" in result.stderr
        assert labels_in(result.stdout)[2:] == ["test", f"test, {tta}"]
        after = json.loads(record.read_text())
        views = after["scores"].pop("test_tta")
        assert after == before
        assert views["tta"] == tta
        assert views["environment"].keys() == before["environment"].keys()
    for same in ("flip_translate", "none"):
        again = call("train", "report_baseline", *options, "--tta", same)
        assert again.stdout == result.stdout
        assert "Scoring" not in again.stderr
    assert (out / "weights.safetensors").read_bytes() == weights


def test_fresh_starts_anew(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "run", tmp_path / "state.pt"
    out.mkdir()
    (out / "weights.safetensors").write_bytes(b"old")
    checkpoint.write_bytes(b"damaged")
    options = (*tiny, "--out", out, "--checkpoint", checkpoint)
    assert "no run.json" in call("train", "report_baseline", *options).stderr
    logs = tmp_path / "logs"
    result = call("train", "report_baseline", *options, "--fresh", "--tensorboard", logs)
    assert result.exit_code == 0, result.stderr
    assert "epoch 1.00 of 1: loss" in result.stderr
    assert "90 training images" in result.stderr
    assert checkpoint.is_file()  # its place was asked for, so it stays
    assert any(logs.iterdir())
    build_model("report_baseline", weights=out / "weights.safetensors")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
    ids=["weights", "device"],
)
def test_run_that_cannot_begin_costs_nothing(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path, option: tuple[str, ...], reason: str
) -> None:
    new = tmp_path / "new"
    result = call("train", "report_baseline", *tiny, *option, "--out", new)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not new.exists()
    out = shutil.copytree(trained, tmp_path / "run")
    before = {path: path.read_bytes() for path in out.iterdir()}
    checkpoint = tmp_path / "state.pt"
    checkpoint.write_bytes(b"earlier")
    elsewhere = ("--out", out, "--fresh", "--checkpoint", checkpoint)
    result = call("train", "report_baseline", *tiny, *option, *elsewhere)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert checkpoint.read_bytes() == b"earlier"
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_data_that_are_not_there_cost_no_earlier_run(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    options = ("--root", tmp_path / "none", "--no-download", "--out", out, "--fresh")
    result = call("train", "report_baseline", *options)
    assert result.exit_code == 1
    assert str(tmp_path / "none") in result.stderr
    for path in trained.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_fresh_keeps_the_weights_that_the_run_starts_from(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(trained, tmp_path / "run")
    start = out / "weights.safetensors"
    result = call("train", "report_baseline", *tiny, "--weights", start, "--out", out, "--fresh")
    assert result.exit_code == 1
    assert f"{start} is what --fresh would delete" in result.stderr
    assert start.read_bytes() == (trained / start.name).read_bytes()


def test_checkpoint_that_is_a_folder_is_refused(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    result = call(
        "train", "report_baseline", *tiny, "--out", tmp_path / "run", "--checkpoint", tmp_path
    )
    assert result.exit_code == 1
    assert "is a folder" in result.stderr
    assert not (tmp_path / "run").exists()


def test_ctrl_c_before_the_run_begins_changes_nothing(
    call: Call, tiny: Tiny, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    out = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr("cifarzoo.cli.job.Job.load", interrupt)
    result = call("train", "report_baseline", *tiny, "--out", out, "--fresh")
    assert result.exit_code == 130
    assert "interrupted before the run began; nothing was changed" in result.stderr
    assert (out / "run.json").read_bytes() == (trained / "run.json").read_bytes()


def test_loss_that_is_not_finite_at_once_leaves_no_random_weights(
    call: Call, tiny: Tiny, tmp_path: Path
) -> None:
    result = call("train", "report_baseline", *tiny, "--lr", "1e30", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "is not finite" in result.stderr
    assert "error:" in result.stderr
    assert "best state" not in result.stderr
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["finished"] is None
    assert record["history"]["stopped"] == "diverged"


def test_best_state_before_a_loss_that_is_not_finite_is_written(tmp_path: Path) -> None:
    settings = {"model": "report_baseline", "data": "shapes"}
    folder, model = RunFolder(path=tmp_path, settings=settings), build_model("report_baseline")
    history = History(checks=(), best_step=3, stopped="diverged", steps=5, images=100, seconds=1.0)
    error = NonFiniteLossError("the loss is not finite", history)
    error.model = model
    write_best(folder, error, {})
    kept = build_model("report_baseline", weights=tmp_path / "weights.safetensors")
    torch.testing.assert_close(kept.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "0"), "lr is 0.0; allowed: a positive number"),
        (("--epochs", "0"), "epochs is 0"),
        (("--batch-size", "500"), "batch_size"),
        (("--device", "cdua"), "device 'cdua'"),
        (("--weights", "nope.safetensors"), "nope.safetensors does not exist"),
    ],
)
def test_bad_options_are_named(
    call: Call, tiny: Tiny, tmp_path: Path, options: Tiny, message: str
) -> None:
    result = call("train", "report_baseline", *tiny, *options, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_missing_data_is_one_error(call: Call, tmp_path: Path) -> None:
    result = call(
        "train", "report_baseline", "--root", tmp_path, "--no-download", "--out", tmp_path / "run"
    )
    assert result.exit_code == 1
    assert f"error: CIFAR-10 is not in {tmp_path}" in result.stderr
    assert "--data shapes" in result.stderr
    assert not (tmp_path / "run").exists()


def _hear_ctrl_c() -> None:
    """Undo what a shell does to commands in its background: let them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(out: Path) -> subprocess.Popen[str]:
    """Start a training in a process of its own, and wait for its first checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cifarzoo", "train", "report_baseline", *LONGER, "--out", out],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        preexec_fn=_hear_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def whole(call: Call, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the run that nobody stops."""
    out = tmp_path_factory.mktemp("whole")
    result = call("train", "report_baseline", *LONGER, "--out", out)
    assert result.exit_code == 0, result.stderr
    return (out / "weights.safetensors").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT and SIGKILL to send")
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted; the run is kept in"), (signal.SIGKILL, -9, "")],
    ids=["ctrl-c", "kill -9"],
)
def test_stopped_run_goes_on_to_the_same_weights(
    call: Call, whole: bytes, tmp_path: Path, number: int, code: int, message: str
) -> None:
    process = started(tmp_path)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert message in said
    assert "Traceback" not in said
    assert (tmp_path / "checkpoint.pt").is_file()
    assert not (tmp_path / "weights.safetensors").exists()
    result = call("train", "report_baseline", *LONGER, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "weights.safetensors").read_bytes() == whole


def test_no_download_also_holds_for_a_backbone(
    call: Call, tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    result = call("train", "resnet18_transfer", *tiny, "--no-download", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "is not there, and is not to be downloaded" in result.stderr
    assert not (tmp_path / "hub").exists()
    assert not (tmp_path / "run").exists()
