"""The weights that come with the package: several runs of one model, and the median one kept.

A run's weights are rounded to half precision and written to a file before anything is scored; what
is scored is what loads from that file. So the one score of the test set is that of what is shipped.
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import cifarzoo
from cifarzoo.arithmetic.cost import count_params
from cifarzoo.data.features import MEMORY_LIMIT_BYTES
from cifarzoo.data.loaders import Loaders, TensorLoader
from cifarzoo.errors import OptionError, ResultsError, WeightsError
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.evaluation.statistics import mean_and_std
from cifarzoo.files import replacing
from cifarzoo.hardware import seeded
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.registry import build_from_card, outline
from cifarzoo.report.folder import read_record, record_path, write_record
from cifarzoo.report.provenance import this_machine, this_source, weights_label
from cifarzoo.report.record import Record, Scores, fingerprint_of, utc_now
from cifarzoo.run import load_data, train
from cifarzoo.spec import ModelCard, PrecisionName, TtaName, Weights, require_tag, require_whole
from cifarzoo.training.callbacks import Callback
from cifarzoo.training.history import History
from cifarzoo.weights import packaged_file, packaged_folder, save_weights, sha256_of, verify
from cifarzoo.weights.notes import notes_on
from cifarzoo.weights.packaged import DEFAULT_TAG, write_description

__all__ = [
    "Recording",
    "median_run",
    "pack",
    "pack_recording",
    "record_seed",
    "recorded",
    "require_checkout",
    "results_folder",
]

SIX_VIEWS: TtaName = "flip_translate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What is trained, with which seeds, and where it is kept.

    Attributes:
        card: what is trained, with the recipe that is used.
        tag: of the weights; "default" is for the card's own recipe.
        seeds: of initial weights, order, augmentation and dropout.
        work: folder of unfinished runs and of every run's weights.
        results: folder of the runs' records.
        data: name of the data set.
        root: where CIFAR-10 is; None looks where `cifar10_loaders` does.
        download: whether to fetch CIFAR-10 where it is not found.
        device: as `train` takes it.
        precision: as `train` takes it.
        tta: "flip_translate" for a second score, with six views; "none" leaves it out.
        progress: whether to show progress bars.
        callbacks: what looks on.
        memory_limit_bytes: of a transfer model's features, which are kept.

    Raises:
        OptionError: the tag, a seed or the test-time augmentation is not allowed.
    """

    card: ModelCard
    tag: str
    seeds: tuple[int, ...]
    work: Path
    results: Path
    data: str = "cifar10"
    root: Path | None = None
    download: bool = True
    device: str = "auto"
    precision: PrecisionName = "auto"
    tta: TtaName = "none"
    progress: bool = True
    callbacks: tuple[Callback, ...] = ()
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES

    def __post_init__(self) -> None:
        require_tag(self.tag)
        for seed in self.seeds:
            require_whole("seeds", seed, 0, float("inf"), "0 or more")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise OptionError(f"seeds is {self.seeds}; allowed: at least one, each once")
        if self.tta not in ("none", SIX_VIEWS):
            raise OptionError(f"tta is {self.tta!r}; allowed to record: 'none', {SIX_VIEWS!r}")

    @property
    def key(self) -> str:
        """What the names of its records begin with."""
        name = self.card.name
        return name if self.tag == DEFAULT_TAG else f"{name}_{self.tag}"

    @property
    def title(self) -> str:
        """What tables call it."""
        name = self.card.name
        return name if self.tag == DEFAULT_TAG else f"{name}, {self.tag}"

    def checkpoint(self, seed: int) -> Path:
        """Give the path of the state of a run that is not finished."""
        return self.work / f"seed{seed}.pt"

    def weights(self, seed: int) -> Path:
        """Give the path of a run's weights, in half precision."""
        return self.work / f"seed{seed}.safetensors"


def results_folder() -> Path:
    """Give the folder of the checkout that keeps the records of the packaged weights' runs."""
    return Path(cifarzoo.__file__).parents[2] / "results" / "zoo"


def require_checkout() -> None:
    """Refuse to record from anything but a commit, to which a record can point.

    Raises:
        ResultsError: the package is not in a git checkout, was changed since its commit, or its
            folder of weights cannot be written.
    """
    source = this_source()
    if source.commit is None:
        raise ResultsError(
            "weights are recorded from a git checkout of cifarzoo, and this package is not in one; "
            "clone it, and install it with `pip install -e .`"
        )
    if source.dirty is not False:
        raise ResultsError(
            f"{Path(cifarzoo.__file__).parent} differs from commit {source.commit[:10]}, which a "
            "record would point to; commit the changes first"
        )
    if not os.access(packaged_folder(), os.W_OK):
        raise ResultsError(f"{packaged_folder()}, where weights go, cannot be written")


def recorded(recording: Recording, seed: int) -> Record | None:
    """Give the record of a run, if there is one, after a look at its weights.

    Raises:
        ResultsError: the file is damaged, or of another run: it is never written over.
        WeightsError: the run's weights are not in the work folder, or were changed.
    """
    path = record_path(recording.results, recording.key, seed)
    if not path.exists():
        return None
    found = read_record(path)
    wanted: dict[str, object] = {
        "title": recording.title,
        "data": recording.data,
        "recipe": recording.card.recipe,
        "network": fingerprint_of(outline(recording.card)),
        "weights": _start_of(recording.card),
    }
    differences = [
        f"{name}: {getattr(found, name)} in the file, {value} now"
        for name, value in wanted.items()
        if getattr(found, name) != value
    ]
    if differences or found.sha256 is None:
        what = "; ".join(differences) or "its weights were not kept"
        raise ResultsError(f"{path} is of another run ({what}). Delete it to have it run again")
    try:
        verify(recording.weights(seed), sha256=found.sha256)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; it is the file that {path} is about. Put it back, name its folder with "
            "--out, or delete the record to have it run again"
        ) from error
    return found


def _start_of(card: ModelCard) -> str | None:
    return None if card.initial_weights is None else weights_label(card.initial_weights)


def record_seed(recording: Recording, seed: int) -> Record:
    """Train, round, score and record one run; what is recorded already is not run again.

    A run that was interrupted goes on from its checkpoint.

    Raises:
        KeyboardInterrupt: Ctrl-C; a training has written its checkpoint.
        And what `recorded`, `train` and `evaluate` raise.
    """
    found = recorded(recording, seed)
    if found is not None:
        return _with_views(recording, found)
    checkpoint, path = recording.checkpoint(seed), recording.weights(seed)
    resumed, began = checkpoint.exists(), time.perf_counter()
    loaders = _load(recording, seed)
    history = _train_to_file(recording, seed, loaders, path)
    record = _scored(recording, seed, loaders, history)
    seconds = None if resumed else time.perf_counter() - began
    record = replace(record, total_seconds=seconds)
    write_record(record, recording.results)
    checkpoint.unlink(missing_ok=True)
    return record


def _load(recording: Recording, seed: int) -> Loaders:
    return load_data(
        recording.data,
        recording.card.recipe,
        root=recording.root,
        seed=seed,
        download=recording.download,
        device=recording.device,
    )


def _train_to_file(recording: Recording, seed: int, loaders: Loaders, path: Path) -> History:
    """Train without a look at the test set, and write what is to be scored."""
    run = train(
        recording.card,
        data=Loaders(loaders.train, loaders.val),
        seed=seed,
        device=recording.device,
        precision=recording.precision,
        checkpoint=recording.checkpoint(seed),
        progress=recording.progress,
        callbacks=recording.callbacks,
        memory_limit_bytes=recording.memory_limit_bytes,
    )
    notes = notes_on(model=recording.card.name, data=recording.data)
    save_weights(run.model, path, metadata=notes, matrices=torch.float16)
    return run.history


def _model_of(recording: Recording, seed: int) -> ImageClassifier:
    """Build what loads from a run's file."""
    with seeded(seed):
        return build_from_card(recording.card, recording.weights(seed), 10)


def _scored(recording: Recording, seed: int, loaders: Loaders, history: History) -> Record:
    card, model = recording.card, _model_of(recording, seed)
    score = functools.partial(
        evaluate, model, device=recording.device, precision=recording.precision
    )
    if loaders.test is None:
        raise OptionError(f"{recording.data} has no test images; needed are some to score")
    whole = loaders.train.in_order() if isinstance(loaders.train, TensorLoader) else None
    views = None if recording.tta == "none" else score(loaders.test, tta=recording.tta)
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
        train=None if whole is None else Scores.of(score(whole), confusion="drop"),
        val=None if loaders.val is None else Scores.of(score(loaders.val), confusion="drop"),
        test=Scores.of(score(loaders.test), confusion="keep"),
        history=history,
        machine=this_machine(recording.device, recording.precision),
        source=this_source(),
        date=utc_now(),
        total_seconds=None,
        weights=_start_of(card),
        test_tta=None if views is None else Scores.of(views, confusion="drop"),
        sha256=sha256_of(recording.weights(seed)),
    )


def _with_views(recording: Recording, record: Record) -> Record:
    """Score a recorded run with six views, if that is asked for and was not done."""
    if recording.tta == "none" or record.test_tta is not None:
        return record
    test = _load(recording, record.seed).test
    assert test is not None  # its single view was scored
    views = evaluate(
        _model_of(recording, record.seed),
        test,
        device=recording.device,
        precision=recording.precision,
        tta=recording.tta,
    )
    record = replace(record, test_tta=Scores.of(views, confusion="drop"))
    write_record(record, recording.results)
    return record


def _test_of(record: Record) -> Scores:
    if record.test is None:
        raise ResultsError(f"the run of {record.key} with seed {record.seed} has no test score")
    return record.test


def median_run(records: Sequence[Record]) -> Record:
    """Give the run of the median test accuracy; of an even number the lower one of the middle two.

    It stands for what a reader would get, as the best one does not. Of equal runs the one with the
    lower seed comes first.

    Raises:
        ResultsError: there is no run, or one has no test score.
    """
    if not records:
        raise ResultsError("there are no runs to choose from; record at least one seed")
    ordered = sorted(records, key=lambda record: (_test_of(record).accuracy, record.seed))
    return ordered[(len(ordered) - 1) // 2]


def pack(
    name: str,
    tag: str,
    records: Sequence[Record],
    files: Mapping[int, Path],
    folder: Path | None = None,
) -> Weights:
    """Put the median run's weights, and what is known of them, into the package.

    Args:
        name: of the model.
        tag: of the weights.
        records: the finished runs, one a seed.
        files: the weights of each seed, as they were scored.
        folder: another one than the package's own.

    Returns:
        What is written beside the file.

    Raises:
        ResultsError: the runs differ in more than their seed, or there is none.
        WeightsError: the file is not the one that was scored, or cannot be written.
    """
    shipped = median_run(records)
    _require_alike(records)
    path = packaged_file(name, tag, folder)
    verify(files[shipped.seed], sha256=str(shipped.sha256))
    weights = _description(tag, records, shipped, files[shipped.seed].stat().st_size)
    try:
        with replacing(path) as temporary:
            shutil.copyfile(files[shipped.seed], temporary)
    except OSError as error:
        raise WeightsError(f"cannot write {path} ({error})") from error
    write_description(name, weights, folder)
    return weights


def pack_recording(recording: Recording, records: Sequence[Record]) -> Weights:
    """Put the median of a recording's runs into the package; see `pack`."""
    files = {seed: recording.weights(seed) for seed in recording.seeds}
    return pack(recording.card.name, recording.tag, records, files)


def _require_alike(records: Sequence[Record]) -> None:
    seeds = [record.seed for record in records]
    kinds = [(each.key, each.recipe, each.network, each.data, each.weights) for each in records]
    if len(set(seeds)) != len(seeds) or any(kind != kinds[0] for kind in kinds):
        raise ResultsError(
            f"the runs of {records[0].key} with seeds {seeds} differ in more than their seed; "
            "needed are runs of one recipe, each seed once"
        )


def _description(tag: str, records: Sequence[Record], shipped: Record, size_bytes: int) -> Weights:
    estimate = mean_and_std([_test_of(record).accuracy for record in records])
    views = shipped.test_tta
    return Weights(
        tag=tag,
        sha256=str(shipped.sha256),
        size_bytes=size_bytes,
        accuracy=_test_of(shipped).accuracy,
        interval=_test_of(shipped).interval,
        mean=estimate.mean,
        std=estimate.std,
        seeds=tuple(sorted(record.seed for record in records)),
        seed=shipped.seed,
        recipe=shipped.recipe,
        seconds=statistics.median(record.history.seconds for record in records),
        machine="; ".join(dict.fromkeys(str(record.machine) for record in records)),
        views=None if views is None or views.tta != SIX_VIEWS else views.accuracy,
    )
