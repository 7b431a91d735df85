"""What `cifarzoo train` does: look whether the run can begin, train, write, show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from torch import nn

from cifarzoo.arithmetic.cost import count_params
from cifarzoo.cli.console import INTERRUPTED, is_terminal, remark
from cifarzoo.cli.folder import RunFolder
from cifarzoo.cli.loading import load
from cifarzoo.cli.options import DataName
from cifarzoo.cli.outcome import add_tta, show_figures, show_files, write_best, write_run
from cifarzoo.cli.records import Record, environment_record
from cifarzoo.cli.words import percent, recipe_words
from cifarzoo.data.loaders import Loaders, TensorLoader
from cifarzoo.errors import NonFiniteLossError, OptionError
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.hardware import resolve_device
from cifarzoo.processes import Team, this_team
from cifarzoo.registry import build_model, outline
from cifarzoo.run import Run, networks_of, train
from cifarzoo.spec import ModelCard, PrecisionName, Recipe, TtaName
from cifarzoo.training.arguments import require_shares
from cifarzoo.training.callbacks import Callback, TensorBoardCallback, import_tensorboard
from cifarzoo.training.history import Check

__all__ = ["CheckLines", "Job", "carry_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that the command line says about a run.

    Attributes:
        card: what is trained, its recipe changed as the options say.
        data: name of the data set.
        root: where CIFAR-10 is; None looks in `CIFARZOO_DATA`, else in the user's cache.
        limit: how many training and test images are used at most; None takes all.
        download: whether to fetch CIFAR-10, and a backbone's weights, where they are not found.
        seed: of initial weights, order, augmentation and dropout.
        weights: where to start from; None leaves it to the card.
        out: the folder that is written.
        checkpoint: file of the unfinished run's state; None keeps it in the folder.
        device: as `fit` takes it.
        precision: as `fit` takes it.
        tta: test-time augmentation of a second score of the test set; "none" leaves it out.
        tensorboard: folder of event files; None writes none.
        memory_limit_bytes: of a transfer model's features, which are kept.
        quiet: print the final figures and nothing else.
    """

    card: ModelCard
    data: DataName
    root: Path | None
    limit: int | None
    download: bool
    seed: int
    weights: str | None
    out: Path
    checkpoint: Path | None
    device: str
    precision: PrecisionName
    tta: TtaName
    tensorboard: Path | None
    memory_limit_bytes: int
    quiet: bool

    def folder(self) -> RunFolder:
        """Give the folder that is written; test-time augmentation makes no other run."""
        settings = {
            "model": self.card.name,
            "data": self.data,
            "limit": self.limit,
            "seed": self.seed,
            "weights": self.weights,
            "recipe": asdict(self.card.recipe),
        }
        return RunFolder(path=self.out, settings=settings)

    def load(self) -> Loaders:
        """Load the data, batched and augmented as the recipe says."""
        return load(
            self.data,
            self.card.recipe,
            root=self.root,
            seed=self.seed,
            limit=self.limit,
            download=self.download,
            device=self.device,
        )


def carry_out(job: Job, team: Team, *, fresh: bool) -> None:
    """Train, or show what was trained before.

    Args:
        job: what to do.
        team: the processes that do it together; the first one alone writes and shows.
        fresh: whether to delete what the folder holds of an earlier run, once this one can begin.

    Raises:
        CheckpointError: the folder holds another run.
        OptionError: the folder cannot be written, or holds what the run starts from.
        Exit: with code 130, after Ctrl-C.
        And what `cifarzoo.train` raises.
    """
    folder = job.folder()
    checkpoint = job.checkpoint or folder.checkpoint
    record = None if fresh else team.led(folder.finished)
    if record is None:
        record = _trained(job, folder, checkpoint, team, fresh=fresh)
    elif team.leads:
        remark(f"This run was finished on {record['finished']}; --fresh trains it anew.\n")
        record = _with_tta(job, folder, record)
    if record is None or not team.leads:
        return
    show_figures(record)
    if not job.quiet:
        show_files(folder)


def _trained(
    job: Job, folder: RunFolder, checkpoint: Path, team: Team, *, fresh: bool
) -> Record | None:
    """Load the data, train, and write; only the first process gives the record.

    Nothing is written or deleted before every process has all that it needs.
    """
    begun = False
    try:
        environment = team.led(lambda: _checked(job, folder, checkpoint, fresh=fresh))
        loaders = job.load()
        require_shares(loaders, team, resolve_device(job.device), job.card.recipe)
        team.everyones(None)  # none of them failed
        team.led(lambda: _begin(job, folder, checkpoint, environment, fresh=fresh))
        begun = True
        if team.leads:
            return _train(job, folder, loaders, checkpoint, environment)
        _assist(job, loaders, checkpoint)
    except KeyboardInterrupt:
        if team.leads:
            _tell_how_to_go_on(checkpoint, begun=begun)
        raise typer.Exit(INTERRUPTED) from None
    return None


def _checked(job: Job, folder: RunFolder, checkpoint: Path, *, fresh: bool) -> Record:
    """Refuse what can be told before any data is loaded; give the record of where the run is."""
    folder.require_place()
    if checkpoint.is_dir():
        raise OptionError(f"the checkpoint {checkpoint} is a folder; needed is a file's path")
    if fresh and job.weights is not None:
        replaced = (folder.weights, folder.checkpoint, checkpoint)
        if Path(job.weights).resolve() in [path.resolve() for path in replaced]:
            raise OptionError(
                f"{job.weights} is what --fresh would delete before the run starts from it; "
                "choose another folder with --out, or copy that file to another place"
            )
    if job.tensorboard is not None:
        import_tensorboard()
    return environment_record(job.device, job.precision)


def _begin(
    job: Job, folder: RunFolder, checkpoint: Path, environment: Record, *, fresh: bool
) -> None:
    """Make the folder ready, once the networks could be built that the training will build."""
    networks_of(job.card, job.weights, 10, download=job.download)
    if fresh:
        checkpoint.unlink(missing_ok=True)
        folder.clear()
    folder.begin(environment)


def _assist(job: Job, loaders: Loaders, checkpoint: Path) -> None:
    """Do one process's part of a training, and show nothing."""
    try:
        _run(job, loaders, checkpoint, callbacks=())
    except NonFiniteLossError:
        raise typer.Exit(1) from None  # which the first process tells of


def _run(job: Job, loaders: Loaders, checkpoint: Path, callbacks: Sequence[Callback]) -> Run:
    return train(
        job.card,
        data=loaders,
        weights=job.weights,
        seed=job.seed,
        device=job.device,
        precision=job.precision,
        tta=job.tta,
        checkpoint=checkpoint,
        progress=not job.quiet and is_terminal(),
        callbacks=callbacks,
        download=job.download,
        memory_limit_bytes=job.memory_limit_bytes,
    )


def _train(
    job: Job, folder: RunFolder, loaders: Loaders, checkpoint: Path, environment: Record
) -> Record:
    if not job.quiet:
        _announce(job, loaders, environment, checkpoint)
    try:
        run = _run(job, loaders, checkpoint, _callbacks(job))
    except NonFiniteLossError as error:
        write_best(folder, error, environment)
        remark("Another rate needs --fresh, which replaces this run, or another folder (--out).")
        raise
    record = write_run(folder, run, loaders, environment)
    if job.checkpoint is None:
        checkpoint.unlink(missing_ok=True)  # the run is over, and its weights are written
    return record


def _with_tta(job: Job, folder: RunFolder, record: Record) -> Record:
    """Score a finished run with the test-time augmentation that is asked for, unless it was."""
    known = record["scores"].get("test_tta")
    if job.tta == "none" or (known is not None and known["tta"] == job.tta):
        return record
    if not job.quiet:
        remark(f"Scoring its test set with {job.tta} test-time augmentation.\n")
    test = job.load().test
    assert test is not None  # both data sets have one
    model = build_model(job.card.name, weights=folder.weights)
    score = evaluate(model, test, device=job.device, precision=job.precision, tta=job.tta)
    return add_tta(folder, record, score, environment_record(job.device, job.precision))


def _callbacks(job: Job) -> list[Callback]:
    callbacks: list[Callback] = []
    if job.tensorboard is not None:
        callbacks.append(TensorBoardCallback(job.tensorboard))
    if not job.quiet and not is_terminal():
        callbacks.append(CheckLines())
    return callbacks


class CheckLines(Callback):
    """One line a check, for a log; a terminal shows a progress bar instead."""

    def __init__(self) -> None:
        self._epochs = 0

    def on_start(self, model: nn.Module, recipe: Recipe) -> None:
        """Note how many epochs there are to be."""
        self._epochs = recipe.epochs

    def on_check(self, check: Check) -> None:
        """Print the check's figures."""
        validation = ""
        if check.val_loss is not None:
            validation = f"; validation {check.val_loss:.4f}, {percent(check.val_accuracy)}"
        remark(
            f"epoch {check.epoch:.2f} of {self._epochs}: loss {check.train_loss:.4f}, "
            f"accuracy {percent(check.train_accuracy)}{validation}; {check.seconds:.1f} s"
        )


def _announce(job: Job, loaders: Loaders, environment: Record, checkpoint: Path) -> None:
    machine = environment["machine"]
    params = count_params(outline(job.card))
    train = loaders.train
    size = this_team().size
    together = "" if size == 1 else f", {size} processes"
    images = f"{train.n:,} training images" if isinstance(train, TensorLoader) else "your images"
    remark(f"{job.card.name} ({params:,} parameters) on {job.data} ({images}), seed {job.seed}")
    remark(
        f"{recipe_words(job.card.recipe)}; {machine['precision']} on {machine['device']} "
        f"({machine['processor']}){together}"
    )
    if checkpoint.exists():
        remark(f"Going on from {checkpoint}.")
    remark("Ctrl-C stops; the same command goes on from there.\n")


def _tell_how_to_go_on(checkpoint: Path, *, begun: bool) -> None:
    if not begun:
        remark("\ninterrupted before the run began; nothing was changed.")
    elif checkpoint.exists():
        remark(
            f"\ninterrupted; the run is kept in {checkpoint}. The same command (without --fresh) "
            "goes on from there."
        )
    else:
        remark("\ninterrupted before there was anything to keep.")
