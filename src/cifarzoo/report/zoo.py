"""A run of the zoo: trained, rounded, scored once and recorded.

A run's weights are rounded to half precision, if that does not move the accuracy on training
images, and written to a file before anything is scored; what is scored is what loads from that
file. So the one score of the test set is that of what is shipped. It is scored in float32,
whatever it was trained in, so that every machine finds the same.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from cifarzoo.arithmetic.cost import count_params
from cifarzoo.data.loaders import Loaders, TensorLoader
from cifarzoo.errors import OptionError, ResultsError, WeightsError, differences
from cifarzoo.hardware import seeded
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.registry import build_from_card, model_card, outline
from cifarzoo.report.folder import load_results, read_record, record_path, write_record, write_text
from cifarzoo.report.provenance import this_machine, this_source, weights_label
from cifarzoo.report.record import Record, Scores, fingerprint_of, utc_now
from cifarzoo.report.recording import Recording
from cifarzoo.report.scoring import evaluate_in_parts
from cifarzoo.run import fit_card, load_data
from cifarzoo.spec import DEFAULT_TAG, ModelCard, TtaName
from cifarzoo.training.history import History
from cifarzoo.weights import packaged_file, save_weights, sha256_of, verify
from cifarzoo.weights.notes import notes_on, read_notes

__all__ = ["file_of", "record_seed", "recorded"]

ROUNDING_IMAGES = 5000  # that decide whether half precision moves the accuracy
ROUNDING_TOLERANCE = 1e-3  # of that accuracy: five of them


def recorded(recording: Recording, seed: int) -> Record | None:
    """Give the record of a run, if there is one, after a look at its weights, if they are there.

    Raises:
        ResultsError: the file is damaged, or of another run: it is never written over.
        WeightsError: the run's weights in the work folder were changed.
    """
    path = record_path(recording.results, recording.key, seed)
    if not path.exists():
        return None
    found = read_record(path)
    differ = differences(
        {
            "title": found.title,
            "data": found.data,
            "recipe": found.recipe,
            "network": found.network,
            "weights": found.weights,
            "teacher": found.teacher,
        },
        {
            "title": recording.title,
            "data": recording.data,
            "recipe": recording.card.recipe,
            "network": fingerprint_of(outline(recording.card)),
            "weights": _start_of(recording.card),
            "teacher": _teacher_of(recording.card),
        },
    )
    if differ or found.sha256 is None:
        what = "; ".join(differ) or "its weights were not kept"
        raise ResultsError(
            f"{path} is of another run ({what}). Give this one a tag of its own (--tag), or move "
            "that record out of the way, into a folder of results that shows it was scored"
        )
    if recording.weights(seed).exists():
        _require_own(recording, found, recording.weights(seed))
    return found


def file_of(recording: Recording, record: Record) -> Path:
    """Give a recorded run's weights: from the work folder, or those that are in the package.

    Raises:
        WeightsError: they are in neither, or were changed.
    """
    own = recording.weights(record.seed)
    shipped = packaged_file(recording.card.name, recording.tag)
    if not own.exists() and shipped.exists() and sha256_of(shipped) == record.sha256:
        return shipped
    _require_own(recording, record, own)
    return own


def _require_own(recording: Recording, record: Record, path: Path) -> None:
    try:
        verify(path, sha256=str(record.sha256))
    except WeightsError as error:
        about = record_path(recording.results, recording.key, record.seed)
        raise WeightsError(
            f"{error}; it is the file that {about} is about. Put it back, name its folder with "
            "--out, or delete the record to have it run again"
        ) from error


def _start_of(card: ModelCard) -> str | None:
    return None if card.initial_weights is None else weights_label(card.initial_weights)


def _teacher_of(card: ModelCard) -> str | None:
    """Name the weights that a card's recipe learns from, and the beginning of their hash.

    Raises:
        WeightsError: they do not come with the package.
    """
    distillation = card.recipe.distillation
    if distillation is None:
        return None
    name, wanted = distillation.teacher, distillation.weights
    found = model_card(name).weights_for(wanted)
    if found is None:
        option = "" if wanted == DEFAULT_TAG else f" --tag {wanted}"
        raise WeightsError(
            f"{card.name} learns from {name} with weights {wanted!r}, which do not come with the "
            f"package; record them first: cifarzoo train {name}{option} --record"
        )
    return f"{name}-{found.tag} {found.sha256[:16]}"


def record_seed(recording: Recording, seed: int) -> Record:
    """Train, round, score and record one run; what is recorded already is not run again.

    A run that was interrupted goes on from its checkpoint, and from the images that were scored.

    Raises:
        KeyboardInterrupt: Ctrl-C; a training has written its checkpoint, a scoring its logits.
        And what `recorded`, `train` and `evaluate` raise.
    """
    found = recorded(recording, seed)
    if found is not None:
        found = _with_views(recording, found)
        if recording.weights(seed).exists():
            _clear(recording, seed)  # what a crash after the record has left
        return found
    _require_no_others(recording)
    teacher, checkpoint = _teacher_of(recording.card), recording.checkpoint(seed)
    resumed, began = checkpoint.exists(), time.perf_counter()
    machines, commits = _noted_parts(recording, seed, resumed=resumed)
    loaders = _load(recording, seed)
    history = _train_to_file(recording, seed, loaders)
    record = _scored(recording, seed, loaders, history)
    seconds = None if resumed else time.perf_counter() - began
    record = replace(record, total_seconds=seconds, teacher=teacher)
    record = replace(record, machines=machines, commits=commits)
    write_record(record, recording.results)
    _clear(recording, seed)
    return record


def _require_no_others(recording: Recording) -> None:
    """Refuse a folder in which another recording keeps its weights, before they are written over.

    Raises:
        ResultsError: they are of another model or tag: the file says so or, where it is older, the
            record that has its hash.
    """
    own = recording.card.name, recording.tag
    for path in sorted(recording.work.glob("seed*.safetensors")):
        notes = read_notes(path)
        of = notes.get("model", own[0]), notes.get("tag", own[1])
        words = "" if of == own else f"{of[0]} {of[1]}"
        if not words and "tag" not in notes and recording.results.is_dir():
            sha256, records = sha256_of(path), load_results(recording.results).records
            keys = [each.key for each in records if each.sha256 == sha256]
            words = "" if recording.key in keys else " ".join(keys)
        if words:
            raise ResultsError(
                f"{path} holds the weights of {words}, which are kept in case more seeds follow; "
                f"choose another folder for {own[0]} {own[1]} with --out"
            )


def _clear(recording: Recording, seed: int) -> None:
    """Delete what an unfinished run has left."""
    _clear_logits(recording, seed)
    for file in (recording.checkpoint(seed), recording.notes(seed)):
        file.unlink(missing_ok=True)


def _clear_logits(recording: Recording, seed: int) -> None:
    for file in recording.work.glob(recording.logits(seed, "*").name):
        file.unlink()


def _noted_parts(
    recording: Recording, seed: int, *, resumed: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Note where and from what commit a part of a run is made, and give those of all parts."""
    notes, here = recording.notes(seed), str(this_machine(recording.device, recording.precision))
    if resumed and not notes.exists():
        return (), ()  # nobody knows where it began
    earlier = notes.read_text(encoding="utf-8").splitlines() if resumed else []
    source = this_source()
    parts = [*earlier, f"{source.commit or source.label}\t{here}"]
    write_text(notes, "".join(f"{each}\n" for each in dict.fromkeys(parts)))
    pairs = [each.split("\t", 1) for each in parts]
    return _last_at_end([machine for _, machine in pairs]), _last_at_end([c for c, _ in pairs])


def _last_at_end(names: list[str]) -> tuple[str, ...]:
    """Give each name once, in the order of its last use."""
    return tuple(reversed(dict.fromkeys(reversed(names))))


def _load(recording: Recording, seed: int) -> Loaders:
    return load_data(
        recording.data,
        recording.card.recipe,
        root=recording.root,
        seed=seed,
        download=recording.download,
        device=recording.device,
    )


def _train_to_file(recording: Recording, seed: int, loaders: Loaders) -> History:
    """Train without a look at the test set, and write what is to be scored."""
    fitted = fit_card(
        recording.card,
        Loaders(loaders.train, loaders.val),
        seed=seed,
        device=recording.device,
        precision=recording.precision,
        checkpoint=recording.checkpoint(seed),
        progress=recording.progress,
        callbacks=recording.callbacks,
        download=recording.download,
        memory_limit_bytes=recording.memory_limit_bytes,
    )
    notes = notes_on(model=recording.card.name, data=recording.data, tag=recording.tag)
    path = recording.weights(seed)
    save_weights(fitted.model, path, metadata=notes, matrices=torch.float16)
    rounded, of = _model_of(recording, seed), sha256_of(path)
    if not _scores_alike(recording, seed, (fitted.model, rounded), loaders, of):
        save_weights(fitted.model, path, metadata=notes)
    return fitted.history


def _scores_alike(
    recording: Recording,
    seed: int,
    models: tuple[ImageClassifier, ImageClassifier],
    loaders: Loaders,
    of: str,
) -> bool:
    """Tell whether a model, and then its rounded weights, do the same over training images."""
    if not isinstance(loaders.train, TensorLoader):
        return True
    some = loaders.train.in_order().first(ROUNDING_IMAGES)
    exact, rounded = (
        _score(recording, seed, model, some, images=images, of=of).accuracy
        for model, images in zip(models, ("exact", "rounded"), strict=True)
    )
    return abs(exact - rounded) <= ROUNDING_TOLERANCE


def _score(
    recording: Recording,
    seed: int,
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    images: str,
    of: str | None,
    tta: TtaName = "none",
) -> Scores:
    found = evaluate_in_parts(
        model,
        data,
        recording.logits(seed, images if tta == "none" else f"{images}-{tta}"),
        of=str(of),
        device=recording.device,
        tta=tta,
    )
    is_main = images == "test" and tta == "none"
    return Scores.of(found, confusion="keep" if is_main else "drop")


def _model_of(recording: Recording, seed: int, path: Path | None = None) -> ImageClassifier:
    """Build what loads from a run's file."""
    with seeded(seed):
        return build_from_card(recording.card, path or recording.weights(seed), 10)


def _scored(recording: Recording, seed: int, loaders: Loaders, history: History) -> Record:
    card, model = recording.card, _model_of(recording, seed)
    if loaders.test is None:
        raise OptionError(f"{recording.data} has no test images; needed are some to score")
    whole = loaders.train.in_order() if isinstance(loaders.train, TensorLoader) else None
    of = sha256_of(recording.weights(seed))
    score = functools.partial(_score, recording, seed, model, of=of)
    views = None if recording.tta == "none" else recording.tta
    return Record(
        key=recording.key,
        title=recording.title,
        task="",
        seed=seed,
        data=recording.data,
        mode="full",
        network=fingerprint_of(model),
        params=count_params(model),
        trainable=count_params(model, which="trainable"),
        recipe=card.recipe,
        train=None if whole is None else score(whole, images="train"),
        val=None if loaders.val is None else score(loaders.val, images="val"),
        test=score(loaders.test, images="test"),
        history=history,
        machine=this_machine(recording.device, recording.precision),
        source=this_source(),
        date=utc_now(),
        total_seconds=None,
        weights=_start_of(card),
        test_tta=None if views is None else score(loaders.test, images="test", tta=views),
        sha256=of,
    )


def _with_views(recording: Recording, record: Record) -> Record:
    """Score a recorded run with six views, if that is asked for and was not done."""
    if recording.tta == "none" or record.test_tta is not None:
        return record
    test = _load(recording, record.seed).test
    assert test is not None  # its single view was scored
    model = _model_of(recording, record.seed, file_of(recording, record))
    seed, of = record.seed, record.sha256
    views = _score(recording, seed, model, test, images="test", of=of, tta=recording.tta)
    record = replace(record, test_tta=views)
    write_record(record, recording.results)
    _clear_logits(recording, seed)
    return record
