from __future__ import annotations

import json
from pathlib import Path

import pytest

from cifarzoo.cli.folder import RunFolder
from cifarzoo.errors import CheckpointError, OptionError

HISTORY = {"stopped": "epochs", "steps": 6, "seconds": 1.0, "best_step": 6, "checks": []}
SCORE = {"accuracy": 0.5, "interval": [0.4, 0.6], "loss": 1.0, "n": 10, "tta": "flip"}
SETTINGS = {"model": "m", "seed": 0, "recipe": {"lr": 0.05, "early_stopping": {"patience": 4}}}


def folder_at(path: Path, **changes: object) -> RunFolder:
    return RunFolder(path=path, settings={**SETTINGS, **changes})


def finished(path: Path) -> RunFolder:
    folder = folder_at(path)
    folder.begin({})
    folder.weights.write_bytes(b"w")
    folder.finish({"scores": {}, "history": HISTORY, "environment": {}})
    return folder


def test_new_folder_holds_no_finished_run(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "a" / "b")
    assert folder.finished() is None
    folder.begin({"machine": {}})
    assert folder.finished() is None
    assert json.loads(folder.record.read_text())["settings"] == SETTINGS


def test_finished_run_is_recognised(tmp_path: Path) -> None:
    record = finished(tmp_path).finished()
    assert record is not None
    assert record["scores"] == {}
    assert record["finished"].endswith("UTC")


def test_later_score_leaves_the_rest_of_the_record(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    before = folder.finished()
    assert before is not None
    folder.amend({**before, "scores": {"test_tta": SCORE}})
    assert folder.finished() == {**before, "scores": {"test_tta": SCORE}}


def test_run_whose_weights_are_gone_is_not_finished(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    folder.weights.unlink()
    assert folder.finished() is None


def test_run_that_left_nothing_binds_nothing(tmp_path: Path) -> None:
    folder_at(tmp_path).begin({})
    assert folder_at(tmp_path, seed=1).finished() is None
    folder_at(tmp_path).checkpoint.touch()
    with pytest.raises(CheckpointError, match="seed"):
        folder_at(tmp_path, seed=1).finished()


def test_run_that_stopped_is_not_finished(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    folder.begin({})
    folder.weights.write_bytes(b"the best state")
    folder.stop({"history": {}})
    assert folder.finished() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed: 0 in the file, 1 now"),
        ({"limit": 5}, r"limit: None in the file, 5 now"),
        ({"recipe": {"lr": 0.1, "early_stopping": None}}, r"recipe\.lr: 0.05 in the file, 0.1 now"),
        (
            {"recipe": {"lr": 0.05, "early_stopping": None}},
            r"recipe\.early_stopping\.patience: 4 in the file, None now",
        ),
    ],
)
def test_other_settings_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    finished(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        folder_at(tmp_path, **changes).finished()
    assert "--out" in str(caught.value)
    assert "--fresh" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "{}", '{"settings": 1}'])
def test_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"--fresh"):
        folder_at(tmp_path).finished()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": None}, "history"),
        ({"history": {**HISTORY, "steps": "6"}}, "steps"),
        ({"history": {**HISTORY, "stopped": "never"}}, "stopped"),
        ({"scores": 5}, "scores"),
        ({"scores": {"test": 5}}, "scores"),
        ({"scores": {"test": {**SCORE, "interval": [0.4]}}}, "interval"),
        ({"environment": []}, "environment"),
        ({"finished": 5}, "finished"),
    ],
)
def test_record_of_a_finished_run_that_lacks_something_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder = finished(tmp_path)
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps(record | changes))
    with pytest.raises(CheckpointError, match=f"cannot be read.*{message}"):
        folder.finished()


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"precious")
    with pytest.raises(OptionError, match=r"weights\.safetensors.*no run\.json"):
        folder_at(tmp_path).finished()


def test_clear_deletes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    other = tmp_path / "notes.txt"
    other.touch()
    folder.clear()
    assert list(tmp_path.iterdir()) == [other]


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="cannot be written"):
        folder_at(tmp_path / "file").begin({})
    for below in ("file", "file/run"):
        with pytest.raises(OptionError, match=r"cannot be written \(.*file is a file\).*--out"):
            folder_at(tmp_path / below).require_place()
    folder_at(tmp_path / "new" / "run").require_place()
    assert not (tmp_path / "new").exists()


def test_folder_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path or mode == 0)
    with pytest.raises(OptionError, match="no permission to write in"):
        folder_at(tmp_path / "run").require_place()
