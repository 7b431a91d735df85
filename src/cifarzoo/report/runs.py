"""What `cifarzoo train` leaves in its folders, read back: settings, scores, how the run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cifarzoo.errors import ResultsError, differences
from cifarzoo.files import read_object
from cifarzoo.spec import to_path

__all__ = ["RUN_FILE", "BegunRun", "FinishedRun", "RunEnd", "RunScore", "load_runs"]

RUN_FILE = "run.json"

SplitName: TypeAlias = Literal["train", "val", "test", "test_tta"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScore:
    """What a run reached on some images.

    Attributes:
        accuracy: in [0, 1].
        interval: 95 % Wilson interval of the accuracy, in [0, 1].
        loss: mean cross-entropy; None where it was not finite.
        n: number of images.
        tta: test-time augmentation, as `evaluate` takes it.
    """

    accuracy: float
    interval: tuple[float, float]
    loss: float | None
    n: int
    tta: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run went.

    Attributes:
        stopped: "epochs" when all were done, "early" before that.
        steps: that were taken.
        seconds: that they took.
        best_step: whose state was kept.
    """

    stopped: Literal["epochs", "early"]
    steps: int
    seconds: float
    best_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunRun:
    """What the file of any run holds.

    Attributes:
        settings: what makes the run's result: model, data, limit, seed, weights, recipe.
    """

    settings: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun(BegunRun):
    """A run that is over, as its folder has it.

    Attributes:
        settings: as of any run.
        finished: when, in UTC.
        environment: machine, commit and versions.
        scores: by "train", "val", "test" and "test_tta"; None where there was nothing to score.
        history: how it ended.
    """

    finished: str
    environment: dict[str, Any]
    scores: dict[SplitName, RunScore | None]
    history: RunEnd

    @property
    def seed(self) -> int:
        """Seed of initial weights, order and augmentation."""
        return int(self.settings["seed"])

    @property
    def test(self) -> RunScore | None:
        """Over the test set, single view."""
        return self.scores.get("test")


def load_runs(folder: str | Path) -> tuple[FinishedRun, ...]:
    """Read the runs of one recipe that `cifarzoo train` wrote, such as `compare` takes.

    Args:
        folder: of a run, or one that holds a folder for each seed, as `--seeds 0,1,2 --out FOLDER`
            leaves it.

    Returns:
        The runs in the order of their seeds.

    Raises:
        OptionError: folder is no path that there can be.
        ResultsError: there is no run, one is not finished or damaged, they differ in more than
            their seed, or the folder holds a run and folders of others.
    """
    path = to_path("folder", folder)
    files = sorted([*path.glob(RUN_FILE), *path.glob(f"*/{RUN_FILE}")])
    if len(files) > 1 and path / RUN_FILE in files:
        raise ResultsError(
            f"{path} holds a run, and so do folders in it, such as {files[-1].parent}; which are "
            "meant? Move one kind into a folder of its own"
        )
    if not files:
        raise ResultsError(
            f"{path} holds no {RUN_FILE}, nor does a folder in it; needed is what `cifarzoo train "
            "NAME --out FOLDER` wrote (records of `cifarzoo report` and of --record are for "
            "load_results)"
        )
    runs = sorted(map(_read, files), key=lambda run: run.seed)
    for run in runs[1:]:
        words = f"with seed {runs[0].seed}", f"with seed {run.seed}"
        differ = differences(_but_seed(runs[0]), _but_seed(run), words=words)
        if differ:
            raise ResultsError(
                f"{path} holds runs that differ in more than their seed ({'; '.join(differ)}); "
                "give the folder of one recipe's runs"
            )
    return tuple(runs)


def _but_seed(run: FinishedRun) -> dict[str, Any]:
    return {name: value for name, value in run.settings.items() if name != "seed"}


def _read(path: Path) -> FinishedRun:
    import msgspec

    try:
        content = read_object(path)
        seed = msgspec.convert(content, BegunRun).settings.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ValueError(f"its seed is {seed!r}; needed is a whole number")
        if content.get("finished") is None:
            way_out = "give its command again to go on"
            if "history" in content:
                way_out = "its loss was not finite; take it out of the folder"
            raise ResultsError(f"the run in {path.parent} is not finished: {way_out}")
        run: FinishedRun = msgspec.convert(content, FinishedRun)
    except ResultsError:
        raise
    except (OSError, ValueError) as error:  # so are errors of JSON, Unicode, msgspec
        raise ResultsError(
            f"{path} cannot be read as the file of a run: {error}; take it out of the folder, or "
            "run it anew with --fresh"
        ) from error
    return run
