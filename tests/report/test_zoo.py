"""The weights of the package: rounded before they are scored, and the median run's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from cifarzoo import (
    Layout,
    Loaders,
    ModelCard,
    OptionError,
    Recipe,
    ResultsError,
    WeightsError,
    evaluate,
    model_card,
    report_model,
)
from cifarzoo.models.state import read_state_dict
from cifarzoo.registry import build_from_card
from cifarzoo.report import zoo
from cifarzoo.report.folder import load_results, record_path
from cifarzoo.report.provenance import Source
from cifarzoo.report.record import Record, Scores
from cifarzoo.report.zoo import Recording, median_run, pack, pack_recording, record_seed, recorded
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.history import Check
from cifarzoo.weights import packaged
from cifarzoo.weights.packaged import packaged_file, packaged_weights

TINY = Layout(filters=(4, 8), kernel_size=3, hidden=(8,))


@pytest.fixture
def card(recipe: Recipe) -> ModelCard:
    """The baseline's card with a network and a recipe of milliseconds."""
    whole = model_card("report_baseline")
    return replace(whole, builder=partial(report_model, TINY), recipe=recipe, weights=())


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_loaders: Callable[..., Loaders]
) -> Path:
    """The folder of the package's weights, and made-up data."""

    def load(data: str, recipe: Recipe, *, seed: int, **_: object) -> Loaders:
        return make_loaders(seed=seed)

    monkeypatch.setattr(zoo, "load_data", load)
    monkeypatch.setattr(packaged, "_FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def recording(card: ModelCard, tmp_path: Path) -> Recording:
    return Recording(
        card=card,
        tag="default",
        seeds=(0, 1, 2),
        work=tmp_path / "work",
        results=tmp_path / "results",
        device="cpu",
        precision="float32",
        progress=False,
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each score looked at."""
    seen: list[int] = []

    def noting(*arguments: object, **options: object) -> object:
        result = evaluate(*arguments, **options)  # type: ignore[arg-type]
        seen.append(result.n)
        return result

    monkeypatch.setattr(zoo, "evaluate", noting)
    return seen


def test_what_is_scored_is_what_loads_from_the_packaged_file(
    recording: Recording, make_loaders: Callable[..., Loaders], folder: Path
) -> None:
    records = [record_seed(recording, seed) for seed in recording.seeds]
    weights = pack_recording(recording, records)
    path = packaged_file("report_baseline", "default")
    assert path == folder / "report_baseline-default.safetensors"
    assert path.read_bytes() == recording.weights(weights.seed).read_bytes()
    model = build_from_card(recording.card, path, 10)
    test = make_loaders().test
    assert test is not None
    again = Scores.of(evaluate(model, test, device="cpu", precision="float32"), confusion="keep")
    assert again == records[weights.seed].test
    assert (weights.accuracy, weights.interval) == (again.accuracy, again.interval)
    kinds = {name: tensor.dtype for name, tensor in read_state_dict(path).items()}
    assert kinds["preprocess.mean"] == torch.float32
    assert torch.float16 in kinds.values()
    assert packaged_weights("report_baseline") == (weights,)
    assert weights.size_bytes == path.stat().st_size
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.sha256 == records[weights.seed].sha256


def test_test_set_is_scored_once_a_run(recording: Recording, scored: list[int]) -> None:
    record_seed(recording, 0)
    assert sorted(scored) == [10, 20, 48]  # test, validation, training images
    record_seed(recording, 0)
    assert len(scored) == 3
    views = record_seed(replace(recording, tta="flip_translate"), 0)
    assert scored[3:] == [10]
    assert views.test_tta is not None
    assert recorded(recording, 0) == views
    record_seed(replace(recording, tta="flip_translate"), 0)
    assert len(scored) == 4


def test_record_is_read_as_any_result(recording: Recording) -> None:
    own = replace(recording, tag="short", tta="flip_translate")
    record = record_seed(own, 1)
    assert record_path(own.results, "report_baseline_short", 1).is_file()
    assert load_results(own.results).records == (record,)
    assert record.title == "report_baseline, short"
    assert record.test_tta is not None
    weights = pack_recording(replace(own, seeds=(1,)), [record])
    assert (weights.std, weights.seeds, weights.seed) == (None, (1,), 1)
    assert weights.views == record.test_tta.accuracy
    assert weights.seconds == record.history.seconds
    assert "cpu, float32" in weights.machine


class Stop(Callback):
    """Ctrl-C at the third check."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_check(self, check: Check) -> None:
        self.seen.append(check.seconds)
        if len(self.seen) == 3:
            raise KeyboardInterrupt


def test_run_that_was_stopped_ends_at_the_same_weights(
    recording: Recording, tmp_path: Path
) -> None:
    whole = record_seed(replace(recording, work=tmp_path / "w", results=tmp_path / "r"), 0)
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        record_seed(replace(recording, callbacks=(stop,)), 0)
    assert recording.checkpoint(0).is_file()
    assert not recording.weights(0).exists()
    parts = record_seed(recording, 0)
    assert not recording.checkpoint(0).exists()
    assert recording.weights(0).read_bytes() == (tmp_path / "w" / "seed0.safetensors").read_bytes()
    assert (parts.sha256, parts.test, parts.val) == (whole.sha256, whole.test, whole.val)
    assert (whole.total_seconds is None, parts.total_seconds) == (False, None)
    times = [check.seconds for check in parts.history.checks]
    assert times == sorted(times)
    assert times[1] == stop.seen[1]  # kept over the break
    assert parts.history.seconds >= times[-1]


def test_crash_before_the_record_trains_nothing_twice(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(zoo, "write_record", fail)
        with pytest.raises(RuntimeError):
            record_seed(recording, 0)
    before = recording.weights(0).read_bytes()
    stop = Stop()
    record_seed(replace(recording, callbacks=(stop,)), 0)
    assert not stop.seen
    assert recording.weights(0).read_bytes() == before


def test_record_of_another_run_is_not_written_over(recording: Recording, recipe: Recipe) -> None:
    record_seed(recording, 0)
    other = replace(recording, card=replace(recording.card, recipe=replace(recipe, lr=0.01)))
    with pytest.raises(ResultsError, match="is of another run"):
        record_seed(other, 0)
    path = record_path(recording.results, recording.key, 0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": None}))
    with pytest.raises(ResultsError, match="its weights were not kept"):
        record_seed(recording, 0)


def test_lost_or_changed_weights_of_a_recorded_run_are_noticed(recording: Recording) -> None:
    records = [record_seed(recording, seed) for seed in (0, 1, 2)]
    chosen = median_run(records).seed
    path = recording.weights(chosen)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="its content was changed"):
        record_seed(recording, chosen)
    with pytest.raises(WeightsError, match="its content was changed"):
        pack_recording(recording, records)
    assert not packaged_file("report_baseline", "default").exists()
    path.unlink()
    with pytest.raises(WeightsError, match=r"does not exist.* --out"):
        record_seed(recording, chosen)


@pytest.mark.parametrize(
    ("accuracies", "seed"),
    [
        ((0.9, 0.7, 0.8), 2),
        ((0.7, 0.9), 0),
        ((0.9, 0.6, 0.8, 0.7), 3),
        ((0.8, 0.8, 0.8), 1),
        ((0.5,), 0),
    ],
)
def test_the_median_is_kept_and_never_the_best(
    make_record: Callable[..., Record],
    tmp_path: Path,
    folder: Path,
    accuracies: tuple[float, ...],
    seed: int,
) -> None:
    files = {i: tmp_path / f"{i}.safetensors" for i in range(len(accuracies))}
    records = []
    for i, accuracy in enumerate(accuracies):
        files[i].write_bytes(bytes([i]) * 9)
        digest = hashlib.sha256(files[i].read_bytes()).hexdigest()
        records.append(make_record("baseline", i, accuracy, sha256=digest))
    weights = pack("report_baseline", "default", records[::-1], files)
    assert weights.seed == seed == median_run(records).seed
    assert weights.accuracy == accuracies[seed]
    assert weights.mean == pytest.approx(sum(accuracies) / len(accuracies))
    assert weights.seeds == tuple(range(len(accuracies)))
    assert packaged_file("report_baseline", "default").read_bytes() == bytes([seed]) * 9
    assert packaged_weights("report_baseline", folder) == (weights,)


def test_runs_that_differ_are_not_packed_together(
    make_record: Callable[..., Record], recipe: Recipe
) -> None:
    one = make_record("baseline", 0)
    for other in (replace(one, seed=1, recipe=recipe), one):
        with pytest.raises(ResultsError, match="differ in more than their seed"):
            pack("report_baseline", "default", [one, other], {})
    with pytest.raises(ResultsError, match="no test score"):
        pack("report_baseline", "default", [replace(one, test=None)], {})
    with pytest.raises(ResultsError, match="there are no runs"):
        pack("report_baseline", "default", [], {})


def test_two_machines_are_both_named(make_record: Callable[..., Record], tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"a")
    digest = hashlib.sha256(b"a").hexdigest()
    one = make_record("baseline", 0, sha256=digest)
    other = replace(one, seed=1, machine=replace(one.machine, cores=8))
    weights = pack("report_baseline", "default", [one, other], {0: file, 1: file})
    assert weights.machine == f"{one.machine}; {other.machine}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "../x"}, "tag is '../x'"),
        ({"seeds": ()}, "seeds is ()"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, "seeds is -1"),
        ({"tta": "flip"}, "tta is 'flip'"),
    ],
)
def test_bad_recordings_are_refused(
    recording: Recording, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        replace(recording, **changes)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("commit", "dirty", "message"),
    [
        (None, None, "from a git checkout"),
        ("c0ffee" * 6 + "beef", True, "differs from commit c0ffeec0ff"),
        ("c0ffee" * 6 + "beef", None, "differs from commit"),
        ("c0ffee" * 6 + "beef", False, "cannot be written"),
    ],
)
def test_only_a_clean_checkout_records(
    monkeypatch: pytest.MonkeyPatch, commit: str | None, dirty: bool | None, message: str
) -> None:
    source = Source(commit=commit, dirty=dirty, versions={})
    monkeypatch.setattr(zoo, "this_source", lambda: source)
    with pytest.raises(ResultsError, match=message):
        zoo.require_checkout()  # the folder of the package's weights is not there
