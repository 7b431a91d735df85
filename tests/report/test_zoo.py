"""Runs of the zoo: rounded before they are scored, scored once, recorded."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cifarzoo import (
    Distillation,
    ImageClassifier,
    Layout,
    Loaders,
    ModelCard,
    Recipe,
    ResultsError,
    TensorLoader,
    Weights,
    WeightsError,
    evaluate,
    model_card,
    report_model,
    save_weights,
)
from cifarzoo.evaluation import predict
from cifarzoo.hardware import seeded
from cifarzoo.models.state import read_state_dict
from cifarzoo.registry import build_from_card, forget_weights
from cifarzoo.report import scoring, zoo
from cifarzoo.report.folder import load_results, record_path, write_record
from cifarzoo.report.packing import median_run, pack_recording
from cifarzoo.report.provenance import this_machine, this_source
from cifarzoo.report.record import Scores
from cifarzoo.report.recording import Recording
from cifarzoo.report.scoring import evaluate_in_parts
from cifarzoo.report.zoo import record_seed, recorded
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.history import Check
from cifarzoo.weights import packaged
from cifarzoo.weights.packaged import packaged_file, packaged_weights, write_description

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
        result = evaluate_in_parts(*arguments, **options)  # type: ignore[arg-type]
        seen.append(result.n)
        return result

    monkeypatch.setattr(zoo, "evaluate_in_parts", noting)
    return seen


def test_what_is_scored_is_what_loads_from_the_packaged_file(
    recording: Recording, make_loaders: Callable[..., Loaders], folder: Path
) -> None:
    records = [record_seed(recording, seed) for seed in recording.seeds]
    weights = pack_recording(recording)
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
    # Test, validation and training images; and some of these twice, for the rounding.
    assert sorted(scored) == [10, 20, 48, 48, 48]
    record_seed(recording, 0)
    assert len(scored) == 5
    views = record_seed(replace(recording, tta="flip_translate"), 0)
    assert scored[5:] == [10]
    assert views.test_tta is not None
    assert recorded(recording, 0) == views
    record_seed(replace(recording, tta="flip_translate"), 0)
    assert len(scored) == 6


def test_record_is_read_as_any_result(recording: Recording) -> None:
    own = replace(recording, tag="short", tta="flip_translate")
    record = record_seed(own, 1)
    assert record_path(own.results, "report_baseline_short", 1).is_file()
    assert load_results(own.results).records == (record,)
    assert record.title == "report_baseline, short"
    assert record.test_tta is not None
    weights = pack_recording(replace(own, seeds=(1,)))
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


def test_scoring_that_was_stopped_again_and_again_scores_no_batch_twice(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = replace(recording, tta="flip_translate")
    batches: list[int] = []
    score = predict.scored

    def scored(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        batches.append(1)
        if len(batches) in stops:
            raise KeyboardInterrupt
        return score(*arguments, **options)

    stops: set[int] = set()
    monkeypatch.setattr(scoring, "scored", scored)
    whole = record_seed(replace(recording, work=tmp_path / "w", results=tmp_path / "r"), 0)
    once = len(batches)
    batches.clear()
    stops.update(range(1, 2 * once, 2))  # every second one, so no try gets past one batch
    for _ in stops:
        with pytest.raises(KeyboardInterrupt):
            record_seed(recording, 0)
    stops.clear()
    record = record_seed(recording, 0)
    assert len(batches) == 2 * once
    for name in ("train", "val", "test", "test_tta", "sha256"):
        assert getattr(record, name) == getattr(whole, name)
    assert {path.name for path in recording.work.iterdir()} == {"seed0.safetensors"}


def test_record_of_another_run_is_not_written_over(recording: Recording, recipe: Recipe) -> None:
    record_seed(recording, 0)
    other = replace(recording, card=replace(recording.card, recipe=replace(recipe, lr=0.01)))
    with pytest.raises(ResultsError, match=r"another run \(recipe.lr: 0.05 in the file, 0.01 now"):
        record_seed(other, 0)
    path = record_path(recording.results, recording.key, 0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": None}))
    with pytest.raises(ResultsError, match="its weights were not kept"):
        record_seed(recording, 0)


def test_weights_of_another_recording_in_the_folder_are_not_written_over(
    recording: Recording, recipe: Recipe
) -> None:
    record_seed(recording, 0)
    before = recording.weights(0).read_bytes()
    card = replace(recording.card, recipe=replace(recipe, lr=0.01))
    other = replace(recording, card=card, tag="other")
    message = r"seed0.safetensors holds the weights of report_baseline default.* with --out"
    with pytest.raises(ResultsError, match=message):
        record_seed(other, 0)
    assert recording.weights(0).read_bytes() == before
    with pytest.raises(ResultsError, match=message):
        record_seed(other, 1)
    record_seed(replace(other, work=recording.work / "other"), 0)


def test_weights_of_before_are_known_by_their_record(recording: Recording, recipe: Recipe) -> None:
    path, record = recording.weights(0), record_seed(recording, 0)
    save_weights(build_from_card(recording.card, path, 10), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_record(replace(record, sha256=digest), recording.results)
    card = replace(recording.card, recipe=replace(recipe, lr=0.01))
    with pytest.raises(ResultsError, match="holds the weights of report_baseline, which are kept"):
        record_seed(replace(recording, card=card, tag="other"), 0)
    record_seed(recording, 1)


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
        pack_recording(recording)
    assert not packaged_file("report_baseline", "default").exists()
    path.unlink()
    with pytest.raises(WeightsError, match=r"does not exist.* --out"):
        pack_recording(recording)


def test_seeds_are_added_where_only_the_shipped_weights_are_left(recording: Recording) -> None:
    records = [record_seed(recording, seed) for seed in (0, 1, 2)]
    shipped = pack_recording(recording)
    elsewhere = replace(recording, work=recording.work / "elsewhere", tta="flip_translate")
    assert pack_recording(elsewhere) == shipped  # from the package's own file
    again = record_seed(elsewhere, shipped.seed)
    assert again.test_tta is not None
    assert pack_recording(elsewhere).views == again.test_tta.accuracy
    records.append(record_seed(elsewhere, 3))
    if median_run(records).seed in (shipped.seed, 3):
        assert pack_recording(elsewhere).seeds == (0, 1, 2, 3)
    else:
        with pytest.raises(WeightsError, match=r"does not exist.* --out"):
            pack_recording(elsewhere)


def test_weights_whose_accuracy_rounding_would_move_stay_whole(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_scores_alike", lambda *_: False)
    record = record_seed(recording, 0)
    kinds = {tensor.dtype for tensor in read_state_dict(recording.weights(0)).values()}
    assert torch.float16 not in kinds
    assert record.sha256 == hashlib.sha256(recording.weights(0).read_bytes()).hexdigest()


def test_rounding_is_judged_by_training_images(
    recording: Recording, make_model: Callable[..., ImageClassifier], loaders: Loaders
) -> None:
    model = make_model(seed=1)
    with torch.no_grad():
        model.get_parameter("network.head.logits.bias")[3] = 100  # all images are of class 3
    same, other = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        other.get_parameter("network.head.logits.bias")[4] = 200  # ... of class 4
    assert zoo._scores_alike(recording, 0, (model, same), loaders, "same")
    few = Loaders(TensorLoader(*_of_class(loaders, 3)))
    assert not zoo._scores_alike(recording, 0, (model, other), few, "other")


def _of_class(loaders: Loaders, label: int) -> tuple[torch.Tensor, torch.Tensor]:
    train = loaders.train
    assert isinstance(train, TensorLoader)
    chosen = train.labels == label
    return train.images[chosen], train.labels[chosen]


def test_all_machines_and_commits_of_a_resumed_run_are_named(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, now = this_machine("cpu", "float32"), this_source()
    there, then = replace(here, processor="another one"), replace(now, commit="1" * 40)
    stopping = replace(recording, callbacks=(Stop(),))
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "this_machine", lambda *_: there)
        patch.setattr(zoo, "this_source", lambda: then)
        with pytest.raises(KeyboardInterrupt):
            record_seed(stopping, 0)
    record = record_seed(recording, 0)
    assert record.machine == here
    assert record.machines == (str(there), str(here))
    assert record.commits == (then.commit, now.commit or now.label)
    assert not recording.notes(0).exists()
    assert pack_recording(recording).machine == f"{there}; {here}"
    assert record_seed(recording, 1).machines == (str(here),)
    with pytest.raises(KeyboardInterrupt):
        record_seed(replace(recording, callbacks=(Stop(),)), 2)
    recording.notes(2).unlink()  # nobody knows where it began
    unknown = record_seed(recording, 2)
    assert unknown.machines == unknown.commits == ()


def test_teacher_is_named_by_its_hash(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = replace(recording.card.recipe, distillation=Distillation(teacher="report_model2"))
    own = replace(recording, card=replace(recording.card, recipe=learning))
    with pytest.raises(WeightsError, match="'default', which do not come with the package; record"):
        record_seed(own, 0)
    other = Distillation(teacher="report_model2", weights="long")
    longer = replace(
        recording, card=replace(own.card, recipe=replace(learning, distillation=other))
    )
    with pytest.raises(WeightsError, match="cifarzoo train report_model2 --tag long --record"):
        record_seed(longer, 0)
    for seed in (0, 1):
        teacher = model_card("report_model2")
        with seeded(seed):
            model = teacher.builder(10)
        name = packaged_file("report_model2", "default")
        save_weights(model, name)
        digest = hashlib.sha256(name.read_bytes()).hexdigest()
        size = name.stat().st_size
        described = replace(WEIGHTS, sha256=digest, size_bytes=size, recipe=teacher.recipe)
        write_description("report_model2", described)
        forget_weights()
        if seed == 0:
            record = record_seed(own, 0)
            assert record.teacher == f"report_model2-default {digest[:16]}"
            assert recorded(own, 0) == record
    with pytest.raises(ResultsError, match="teacher: 'report_model2-default"):
        recorded(own, 0)
    forget_weights()


WEIGHTS = Weights(
    tag="default",
    sha256="0" * 64,
    size_bytes=1,
    accuracy=0.5,
    interval=(0.4, 0.6),
    mean=0.5,
    std=None,
    seeds=(0,),
    seed=0,
    recipe=Recipe(),
    seconds=1.0,
    machine="a test",
)


def test_what_a_crash_after_the_record_has_left_is_deleted(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "_clear", lambda *_: None)  # as if it had been killed before
        record = record_seed(recording, 0)
    left = sorted(path.suffix for path in recording.work.iterdir())
    assert {".logits", ".parts", ".pt", ".safetensors"} == set(left)
    assert record_seed(recording, 0) == record
    assert [path.name for path in recording.work.iterdir()] == ["seed0.safetensors"]


def test_views_of_shipped_weights_leave_nothing_in_the_folder(
    recording: Recording, tmp_path: Path
) -> None:
    record_seed(recording, 0)
    pack_recording(recording)
    elsewhere = replace(recording, work=tmp_path / "elsewhere", tta="flip_translate")
    assert record_seed(elsewhere, 0).test_tta is not None
    assert not list(elsewhere.work.glob("*"))


def test_what_another_recording_has_left_in_the_folder_stays(
    recording: Recording, tmp_path: Path
) -> None:
    record = record_seed(recording, 0)
    elsewhere = replace(recording, work=tmp_path / "elsewhere")
    elsewhere.work.mkdir()
    elsewhere.checkpoint(0).write_bytes(b"hours of another run")
    assert record_seed(elsewhere, 0) == record
    assert elsewhere.checkpoint(0).read_bytes() == b"hours of another run"


def test_weights_are_the_median_of_all_recorded_seeds_not_of_those_asked_for(
    recording: Recording,
) -> None:
    records = [record_seed(recording, seed) for seed in (0, 1, 2)]
    best = max(records, key=lambda record: record.test.accuracy if record.test else 0).seed
    weights = pack_recording(replace(recording, seeds=(best,)))
    assert weights.seeds == (0, 1, 2)
    assert weights.seed == median_run(records).seed
