"""Run all of the report; what was done before is not done again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import get_args

from cifarzoo.errors import OptionError, ResultsError, one_of
from cifarzoo.registry import build_model
from cifarzoo.report.conditions import Conditions
from cifarzoo.report.experiments import FILTERS_KEY, Experiment, find_experiments
from cifarzoo.report.filters import draw_filters, filters_drawn
from cifarzoo.report.folder import load_results
from cifarzoo.report.page import write_page
from cifarzoo.report.provenance import this_machine
from cifarzoo.report.record import Failure, ModeName, Record
from cifarzoo.report.runner import recorded, run_experiment
from cifarzoo.report.words import duration, number
from cifarzoo.run import DataName
from cifarzoo.spec import PrecisionName

__all__ = ["run_report"]


def _silent(message: str) -> None:
    """Say nothing."""


def run_report(
    out: str | Path,
    *,
    data: DataName = "cifar10",
    root: str | Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    experiments: Sequence[str] | None = None,
    mode: ModeName = "full",
    weights: str | Path | None = None,
    device: str = "auto",
    precision: PrecisionName = "auto",
    progress: bool = True,
    on_message: Callable[[str], None] = _silent,
) -> Path:
    """Run the report's experiments over several seeds and write its page.

    Every run is recorded when it is done, and not run again: call it again to go on after an
    interruption, or to add seeds. The first seed of everything comes before the second of
    anything, the cheapest first, so that an interrupted report has as much to show as it can.

    Args:
        out: folder of the results; made if it is not there.
        data: "cifar10", or "shapes", which stands in for it.
        root: where CIFAR-10 is; None looks where `cifar10_loaders` does.
        seeds: each 0 or more, in the order in which they are run.
        experiments: keys of `EXPERIMENTS`, or "filters" for tasks 4b and 4c; None runs all.
        mode: "quick" is one epoch over a few hundred images, to see that everything works.
        weights: ResNet-18's, a tag or a file; None downloads torchvision's.
        device: "auto", or what `torch.device` takes.
        precision: "auto" computes in bfloat16 where the device is faster in it.
        progress: whether to show progress bars.
        on_message: is told what goes on, a line at a time.

    Returns:
        The page's path.

    Raises:
        OptionError: a name or value is not known.
        ResultsError: the folder holds other runs, or a damaged file; nothing is written over.
        WeightsError: the weights that were given do not fit ResNet-18.
        KeyboardInterrupt: Ctrl-C, after the run's checkpoint and the page were written.
        And what the loaders, `fit` and `evaluate` raise.
    """
    if mode not in get_args(ModeName):
        raise one_of("mode", mode, get_args(ModeName))
    _check_seeds(seeds)
    this_machine(device, precision)  # whether there is such a one
    if weights is not None:
        build_model("resnet18_transfer", weights=weights)  # now, not after hours of other runs
    conditions = Conditions(
        folder=Path(out),
        data=data,
        root=None if root is None else Path(root),
        mode=mode,
        weights=weights,
        device=device,
        precision=precision,
        progress=progress,
    )
    chosen, with_filters = _choose(experiments)
    plan = [(experiment, seed) for seed in seeds for experiment in chosen]
    done = _check_folder(plan, conditions)
    conditions.folder.mkdir(parents=True, exist_ok=True)
    try:
        if with_filters and not filters_drawn(conditions.folder, weights):
            failure = draw_filters(conditions.folder, weights)
            on_message(f"Filters and activations: {'drawn' if not failure else failure.error}")
        _run(plan, done, conditions, on_message)
    except KeyboardInterrupt:
        on_message(f"interrupted; what is done is in {write_page(conditions.folder)}")
        raise
    return write_page(conditions.folder)


def _run(
    plan: Sequence[tuple[Experiment, int]],
    done: Collection[tuple[str, int]],
    conditions: Conditions,
    on_message: Callable[[str], None],
) -> None:
    for position, (experiment, seed) in enumerate(plan, 1):
        label = f"[{position}/{len(plan)}] {experiment.title}, seed {seed}"
        if (experiment.key, seed) in done:
            on_message(f"{label}: recorded already")
            continue
        on_message(f"{label} ...")
        on_message(f"{label}: {_outcome(run_experiment(experiment, seed, conditions))}")


def _check_seeds(seeds: Sequence[int]) -> None:
    wrong = [seed for seed in seeds if isinstance(seed, bool) or not isinstance(seed, int)]
    if wrong or not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise OptionError(
            f"seeds are {tuple(seeds)}; allowed: one or more different integers, each 0 or more"
        )


def _choose(keys: Sequence[str] | None) -> tuple[tuple[Experiment, ...], bool]:
    """Give the experiments to train, and whether to draw the filters."""
    if keys is None:
        return find_experiments(None), True
    named = [keys] if isinstance(keys, str) else list(keys)
    trained = [key for key in named if key != FILTERS_KEY]
    with_filters = FILTERS_KEY in named
    return (find_experiments(trained) if trained or not with_filters else ()), with_filters


def _check_folder(
    plan: Sequence[tuple[Experiment, int]], conditions: Conditions
) -> set[tuple[str, int]]:
    """Give what is recorded already; refuse a folder that holds something else.

    Raises:
        ResultsError: before anything runs, not after hours of it.
    """
    if not conditions.folder.exists():
        return set()
    for record in load_results(conditions.folder).records:
        if (record.data, record.mode) != (conditions.data, conditions.mode):
            raise ResultsError(
                f"{conditions.folder} holds runs on {record.data} ({record.mode}), and this would "
                f"be {conditions.data} ({conditions.mode}); choose another folder"
            )
    return {(e.key, seed) for e, seed in plan if recorded(e, seed, conditions) is not None}


def _outcome(result: Record | Failure) -> str:
    if isinstance(result, Failure):
        return f"not run: {result.error}"
    test = "not scored" if result.test is None else f"{number(result.test.accuracy, 2, 100)} %"
    speed = number(result.history.images_per_second, 0)
    return (
        f"test accuracy {test}, {number(result.history.steps, 0)} steps in "
        f"{duration(result.history.seconds)}, {speed} images/s"
    )
