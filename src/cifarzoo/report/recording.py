"""What is recorded for the zoo: which model, recipe and seeds, and where it is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cifarzoo
from cifarzoo.data.features import MEMORY_LIMIT_BYTES
from cifarzoo.errors import OptionError, ResultsError
from cifarzoo.report.provenance import is_committed, this_source
from cifarzoo.spec import (
    DEFAULT_TAG,
    ModelCard,
    PrecisionName,
    TtaName,
    require_tag,
    require_whole,
)
from cifarzoo.training.callbacks import Callback
from cifarzoo.weights import packaged_folder

__all__ = ["SIX_VIEWS", "Recording", "record_key", "require_checkout", "results_folder"]

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
        precision: of the training, as `train` takes it; scores are in float32.
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
        return record_key(self.card.name, self.tag)

    @property
    def title(self) -> str:
        """What tables call it."""
        name = self.card.name
        return name if self.tag == DEFAULT_TAG else f"{name}, {self.tag}"

    def checkpoint(self, seed: int) -> Path:
        """Give the path of the state of a run that is not finished."""
        return self.work / f"seed{seed}.pt"

    def notes(self, seed: int) -> Path:
        """Give the path of the list of what commits and machines made an unfinished run's parts."""
        return self.work / f"seed{seed}.parts"

    def logits(self, seed: int, images: str) -> Path:
        """Give the path of what an unfinished run's model said of some images."""
        return self.work / f"seed{seed}.{images}.logits"

    def weights(self, seed: int) -> Path:
        """Give the path of a run's weights."""
        return self.work / f"seed{seed}.safetensors"


def record_key(name: str, tag: str) -> str:
    """Give what the names of records of a model begin with.

    Args:
        name: of the model.
        tag: of the recipe.
    """
    return name if tag == DEFAULT_TAG else f"{name}_{tag}"


def results_folder() -> Path:
    """Give the folder of the checkout that keeps the records of the packaged weights' runs."""
    return Path(cifarzoo.__file__).parents[2] / "results" / "zoo"


def require_checkout(card: ModelCard) -> None:
    """Refuse to record from anything but a commit, to which a record can point.

    Args:
        card: of the model; the weights of a teacher that it learns from are part of the commit too.

    Raises:
        ResultsError: the package is not in a git checkout, was changed since its commit, or its
            folders of weights and of records cannot be written.
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
    distillation = card.recipe.distillation
    if distillation is not None and not is_committed(packaged_folder()):
        raise ResultsError(
            f"{card.name} learns from {distillation.teacher}, and {packaged_folder()} holds "
            f"weights that are not in commit {source.commit[:10]}, which a record would point to; "
            "commit them first"
        )
    results = next(each for each in (results_folder(), *results_folder().parents) if each.exists())
    for folder, what in ((packaged_folder(), "weights"), (results, "records")):
        if not os.access(folder, os.W_OK):
            raise ResultsError(f"{folder}, where {what} go, cannot be written")
