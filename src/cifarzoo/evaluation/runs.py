"""Two sets of runs: their accuracies, paired by seed or not, and Student's and Welch's tests."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Literal, Protocol, TypeAlias

from cifarzoo.errors import OptionError, wrong_kind
from cifarzoo.evaluation.comparison import Comparison

__all__ = ["DesignName", "Runs", "Side", "by_runs", "side_of"]

SAME = 1e-6  # accuracies that differ by less differ by float32's rounding alone
ITEM = "an accuracy in [0, 1], or a run with its seed and test score, such as `train` gives"
SIDE = (
    "a sequence of accuracies or of runs, a mapping from seeds to accuracies, Predictions, or a "
    "torch.nn.Module, which build_model(name, weights='default') makes of a name"
)

DesignName: TypeAlias = Literal["auto", "paired", "independent"]


class _Score(Protocol):
    @property
    def accuracy(self) -> float: ...


class ScoredRun(Protocol):
    """A `Run`, a record of the report, or what looks like one; `test.n` is looked at if there."""

    @property
    def seed(self) -> int: ...
    @property
    def test(self) -> _Score | None: ...


Runs: TypeAlias = Sequence[float] | Sequence[ScoredRun] | Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Side:
    """Accuracies of runs, with their seeds, and the numbers of images, where these are known."""

    accuracies: tuple[float, ...]
    seeds: tuple[int, ...] | None
    images: frozenset[int] = frozenset()

    @property
    def mean(self) -> float:
        """Mean accuracy, in [0, 1]."""
        return math.fsum(self.accuracies) / len(self.accuracies)

    def in_order_of(self, seeds: tuple[int, ...] | None) -> tuple[float, ...]:
        """Give the accuracies in the order of another side's seeds; as they are without seeds."""
        if seeds is None or self.seeds is None:
            return self.accuracies
        found = dict(zip(self.seeds, self.accuracies, strict=True))
        return tuple(found[seed] for seed in seeds)


def by_runs(a: Side, b: Side, design: DesignName, confidence: float) -> Comparison:
    """Compare the accuracies of two sets of runs.

    Raises:
        OptionError: the design asks for pairs that do not fit, or the runs were not scored over
            as many images.
    """
    if len(a.images | b.images) > 1:
        shown = [" and ".join(f"{n:,}" for n in sorted(side.images)) or "?" for side in (a, b)]
        raise OptionError(
            f"the runs of a were scored over {shown[0]} images, those of b over {shown[1]}; needed "
            "is the same test set for all (for `cifarzoo train`: the same --limit)"
        )
    paired = _is_paired(a, b, design)
    ours, theirs = a.accuracies, b.in_order_of(a.seeds) if paired else b.accuracies
    difference = a.mean - b.mean
    low, high, p_value = _t_test(ours, theirs, paired=paired, confidence=confidence)
    return Comparison(
        accuracy_a=a.mean,
        accuracy_b=b.mean,
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        test="paired t-test" if paired else "Welch's t-test",
        n=(len(ours), len(theirs)),
        confidence=confidence,
    )


def _t_test(
    a: Sequence[float], b: Sequence[float], *, paired: bool, confidence: float
) -> tuple[float | None, float | None, float | None]:
    """Give the ends of the interval and the p-value."""
    from scipy.stats import ttest_ind, ttest_rel

    if min(len(a), len(b)) < 2:
        return None, None, None
    varied = [[x - y for x, y in zip(a, b, strict=True)]] if paired else [a, b]
    if all(max(values) - min(values) < SAME for values in varied):
        return None, None, 1.0 if abs(a[0] - b[0]) < SAME else None
    with warnings.catch_warnings():  # scipy warns of a side without spread; the other has some
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ttest_rel(a, b) if paired else ttest_ind(a, b, equal_var=False)
    interval = found.confidence_interval(confidence)
    return float(interval.low), float(interval.high), float(found.pvalue)


def _is_paired(a: Side, b: Side, design: DesignName) -> bool:
    if design == "independent":
        return False
    if a.seeds is None or b.seeds is None:
        if design == "paired" and a.seeds is not b.seeds:
            raise OptionError(
                f"{'a' if a.seeds is None else 'b'} has no seeds and the other side has some; to "
                "pair by seed give runs or a mapping from seeds to accuracies on both sides"
            )
        if design == "paired" and len(a.accuracies) != len(b.accuracies):
            raise OptionError(
                f"a has {len(a.accuracies)} runs and b {len(b.accuracies)}; pairs need as many, "
                "or design='independent'"
            )
        return design == "paired"
    lonely = sorted(set(a.seeds) ^ set(b.seeds))
    if lonely and design == "paired":
        raise OptionError(
            f"only one side has seeds {', '.join(map(str, lonely))}; run them for the other side "
            "too, leave them out, or take design='independent'"
        )
    return not lonely


def side_of(name: str, given: object) -> Side:
    """Read one side.

    Raises:
        OptionError: it is empty, or holds something else than accuracies of runs.
    """
    if isinstance(given, Mapping):
        seeds, values = list(given), list(given.values())
        if odd := [seed for seed in seeds if not isinstance(seed, Integral)]:
            raise wrong_kind(f"a seed of {name}", odd[0], "an int")
        return _checked(name, values, seeds)
    if hasattr(given, "tolist"):  # numpy's arrays, torch's tensors
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise wrong_kind(name, given, SIDE)
    numbers = [_is_number(each) for each in given]
    if all(numbers):
        return _checked(name, given, None)
    for i, each in enumerate(given):
        if not _is_number(each) and not (hasattr(each, "seed") and hasattr(each, "test")):
            raise wrong_kind(f"{name}[{i}]", each, ITEM)
    if any(numbers):
        raise OptionError(f"{name} holds numbers and runs; needed is one of the two")
    if untested := [run.seed for run in given if run.test is None]:
        raise OptionError(
            f"{name} has no test score for seed {untested[0]}; leave that run out, or give "
            "accuracies by seed: {seed: accuracy}"
        )
    side = _checked(name, [run.test.accuracy for run in given], [run.seed for run in given])
    numbers_of_images = (getattr(run.test, "n", None) for run in given)
    images = frozenset(int(n) for n in numbers_of_images if isinstance(n, Integral))
    return replace(side, images=images)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked(name: str, values: Sequence[float], seeds: Sequence[int] | None) -> Side:
    if not values:
        raise OptionError(f"{name} is empty; needed is at least one run, best three or more")
    for value in values:
        if not _is_number(value):
            raise wrong_kind(f"an accuracy of {name}", value, "a number in [0, 1]")
        if not 0 <= value <= 1:
            way_out = "; divide percents by 100" if value > 1 else ""
            raise OptionError(f"{name} holds {value}; accuracies lie in [0, 1]{way_out}")
    if seeds is not None and len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise OptionError(
            f"{name} has seed {twice} twice; runs that are counted twice feign certainty: give "
            "each seed once, of one experiment"
        )
    return Side(tuple(map(float, values)), None if seeds is None else tuple(seeds))
