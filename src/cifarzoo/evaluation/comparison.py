"""Is the difference real? Two sets of runs, or two models on the same images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, Protocol, TypeAlias, get_args, overload

import torch
from torch import Tensor, nn

from cifarzoo.display import Display, Shown
from cifarzoo.errors import OptionError, one_of, wrong_kind
from cifarzoo.evaluation.predict import Predictions, predict
from cifarzoo.evaluation.score import check_labels, check_probabilities

__all__ = ["Comparison", "Runs", "compare"]

SAME = 1e-6  # accuracies that differ by less differ by float32's rounding alone
ITEM = "an accuracy in [0, 1], or a run with its seed and test score, such as `train` gives"
SIDE = (
    "a sequence of accuracies or of runs, a mapping from seeds to accuracies, Predictions, or a "
    "torch.nn.Module"
)

DesignName: TypeAlias = Literal["auto", "paired", "independent"]
TestName: TypeAlias = Literal["paired t-test", "Welch's t-test", "exact McNemar test"]


class _Score(Protocol):
    @property
    def accuracy(self) -> float: ...


class ScoredRun(Protocol):
    """A `Run`, a record of the report, or what looks like one."""

    @property
    def seed(self) -> int: ...
    @property
    def test(self) -> _Score | None: ...


Runs: TypeAlias = Sequence[float] | Sequence[ScoredRun] | Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Shown):
    """How far a is above b, and whether that is more than chance.

    Attributes:
        accuracy_a: of a, in [0, 1]; the mean of several runs.
        accuracy_b: of b, in [0, 1]; the mean of several runs.
        difference: accuracy of a less that of b, in [-1, 1]; 0.01 is a point.
        low: lower end of the difference's confidence interval, in the same unit, 0.01 a point;
            None where there is none: one run alone, or runs without any spread.
        high: upper end, in the same unit, 0.01 a point; None likewise.
        p_value: two-sided, in [0, 1]: how often chance alone makes a difference this large; None
            likewise. Without any spread it is 1 where a and b are the same.
        test: "paired t-test", "Welch's t-test" or "exact McNemar test".
        n: how many runs a and b have; how many images, where models are compared.
        confidence: of the interval, between 0 and 1.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired t-test", "Welch's t-test", "exact McNemar test"]
    n: tuple[int, int]
    confidence: float

    @property
    def verdict(self) -> Literal["clear", "may be noise", "cannot tell"]:
        """The result in words; "clear" where the interval leaves out zero and the test agrees."""
        if self.p_value is None:
            return "cannot tell"
        bounded = self.low is not None and self.high is not None
        apart = bounded and (self.low > 0 or self.high < 0)  # type: ignore[operator]
        return "clear" if apart and self.p_value < 1 - self.confidence else "may be noise"

    def __str__(self) -> str:
        why = f" ({self._why})" if self._why else ""
        return (
            f"a − b: {_points(self.difference)} points ({self._level} {self._interval}), "
            f"{self.test} over {self._over}, {self._chance}: {self.verdict}{why}"
        )

    def _display(self) -> Display:
        one_state = "of these two trained models, not of the methods that made them"
        rows = [
            ("accuracy of a", f"{self.accuracy_a:.2%}"),
            ("accuracy of b", f"{self.accuracy_b:.2%}"),
            ("a − b", f"{_points(self.difference)} points"),
            (self._level, self._interval),
            (self.test, self._chance),
            ("over", self._over),
            ("verdict", self.verdict),
        ]
        return Display(
            title="Comparison",
            header=("what", "value"),
            rows=tuple(rows),
            numbers=("value",),
            note=one_state if self.test == "exact McNemar test" else self._why,
        )

    @property
    def _level(self) -> str:
        """Name the interval, such as "95 % interval"."""
        return f"{100 * self.confidence:g} % interval"

    @property
    def _interval(self) -> str:
        """Give both ends of the interval, in points."""
        if self.low is None or self.high is None:
            return "not known"
        return f"{_points(self.low)} to {_points(self.high)}"

    @property
    def _chance(self) -> str:
        """Give p, such as "p = 0.063"."""
        if self.p_value is None:
            return "no p"
        return "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"

    @property
    def _over(self) -> str:
        """Give how many runs, pairs or images there are."""
        a, b = self.n
        if self.test == "Welch's t-test":
            return f"{a} and {b} runs"
        unit = "image" if self.test == "exact McNemar test" else "pair"
        return f"{a:,} {unit}" + ("s" if a != 1 else "")

    @property
    def _why(self) -> str:
        """Tell why nothing can be told; empty where it can."""
        if self.p_value is not None:
            return ""
        if min(self.n) < 2:
            return "one run shows no spread; run more seeds"
        return "these runs show no spread; are they of different seeds?"


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"  # + 0.0: zero is never written -0.00


@overload
def compare(
    a: Runs,
    b: Runs,
    *,
    design: Literal["auto", "paired", "independent"] = "auto",
    confidence: float = 0.95,
) -> Comparison: ...
@overload
def compare(a: Predictions, b: Predictions, *, confidence: float = 0.95) -> Comparison: ...
@overload
def compare(
    a: nn.Module,
    b: nn.Module,
    *,
    data: Iterable[tuple[Tensor, Tensor]],
    device: str | torch.device = "auto",
    confidence: float = 0.95,
) -> Comparison: ...
def compare(
    a: Runs | Predictions | nn.Module,
    b: Runs | Predictions | nn.Module,
    *,
    data: Iterable[tuple[Tensor, Tensor]] | None = None,
    device: str | torch.device = "auto",
    design: Literal["auto", "paired", "independent"] = "auto",
    confidence: float = 0.95,
) -> Comparison:
    """Tell whether a is better than b, or a difference this large may be noise.

    Runs over several seeds compare two methods. Two models, or what they predict, are compared
    image by image: that is about these two trained models, and says nothing of what another seed
    would have given.

    Args:
        a: test accuracies in [0, 1], one a run; or a mapping from seeds to them; or runs, such as
            `train` gives or a folder of results holds. Or `Predictions`, or a model.
        b: the same kind of thing.
        data: batches of (images, labels) for two models, such as `loaders.test`, in the same
            order each time; only for models.
        device: for two models: "auto", or what `torch.device` takes. For another precision or
            test-time augmentation compare what `predict` gives.
        design: of runs. "auto" pairs those whose seeds are known and the same on both sides, and
            takes all others as independent. "paired" also takes numbers in the order of their
            seeds. "independent" never pairs. Choose before you look: the better p of two tests
            is no p.
        confidence: of the interval, between 0 and 1.

    Returns:
        The difference a - b, its interval, and the p-value of a two-sided test. One run a side
        has neither; nor have runs whose differences are all the same, except p = 1 where
        these are 0.

    Raises:
        EmptyLoaderError: the loader gave nothing.
        LabelError: a label is outside the models' classes.
        OptionError: a or b is empty, of mixed kinds or outside [0, 1], a seed is there twice,
            pairs do not fit, data is missing or not for these, predictions are of different
            images, or a name or the confidence is not allowed.
        RangeError: pixels that a model does not take, or probabilities that are none.
        ShapeError: images or labels have a wrong shape.

    Source: pairs: Student's paired t-test, `scipy.stats.ttest_rel`; independent runs: Welch 1947,
        `scipy.stats.ttest_ind`; images: the exact test of McNemar 1947 by `scipy.stats.binomtest`,
        with the interval of Agresti and Min 2005 (Statistics in Medicine 24, 729-740).
    """
    if design not in get_args(DesignName):
        raise one_of("design", design, get_args(DesignName))
    if not 0 < confidence < 1:
        raise OptionError(f"confidence is {confidence}; allowed: between 0 and 1, such as 0.95")
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        a, b = _predicted(a, b, data, device)
    elif data is not None:
        raise OptionError("data is given, but a and b are not both models; leave it out")
    if isinstance(a, Predictions) and isinstance(b, Predictions):
        if design == "independent":
            raise OptionError("design is 'independent', but images are paired; leave it out")
        return _by_images(a, b, confidence)
    for this, other in ((a, b), (b, a)):
        if isinstance(this, nn.Module | Predictions):
            raise OptionError(
                f"one side is a {type(this).__name__}, the other a {type(other).__name__}; "
                "needed are two models, two Predictions, or runs on both sides"
            )
    return _by_runs(_side("a", a), _side("b", b), design, confidence)


def _predicted(
    a: nn.Module,
    b: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]] | None,
    device: str | torch.device,
) -> tuple[Predictions, Predictions]:
    if data is None:
        raise OptionError("a and b are models, but data is None; pass data=loaders.test")
    if isinstance(data, Iterator | Tensor):
        raise wrong_kind("data", data, "a loader that can be gone through once for each model")
    return predict(a, data, device=device), predict(b, data, device=device)


def _by_images(a: Predictions, b: Predictions, confidence: float) -> Comparison:
    from scipy.stats import binomtest, norm

    right_a, right_b = _right(a, b)
    n = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    apart = only_a + only_b
    # Half an image more in each of the four cells keeps the interval honest for few images.
    middle = (only_a - only_b) / (n + 2)
    half = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt((apart + 1) / (n + 2) - middle**2)
    half /= math.sqrt(n + 2)
    return Comparison(
        accuracy_a=int(right_a.sum()) / n,
        accuracy_b=int(right_b.sum()) / n,
        difference=(only_a - only_b) / n,
        low=max(-1.0, middle - half),
        high=min(1.0, middle + half),
        p_value=float(binomtest(only_a, apart).pvalue) if apart else 1.0,
        test="exact McNemar test",
        n=(n, n),
        confidence=confidence,
    )


def _right(a: Predictions, b: Predictions) -> tuple[Tensor, Tensor]:
    """Tell which images a and b classify right, two bool (N,).

    Raises:
        LabelError: a label is no class.
        OptionError: there are no labels or no images, or they are not the same ones.
        RangeError: probabilities that are none.
        ShapeError: there is not one row of them for each image.
    """
    if a.labels is None or b.labels is None:
        which = "a" if a.labels is None else "b"
        raise OptionError(f"{which} has no labels to be right about; give `predict` a loader")
    if not len(a.labels) or not len(b.labels):
        raise OptionError("a or b holds no image; needed are predictions of the same images")
    if len(a.labels) != len(b.labels):
        raise OptionError(
            f"a holds {len(a.labels)} images and b {len(b.labels)}; needed are predictions of "
            "the same images"
        )
    if differ := int((a.labels != b.labels).sum()):
        raise OptionError(
            f"{differ} of {len(a.labels)} labels of a and b differ; needed are the same images in "
            "the same order, such as loaders.test gives; a shuffling loader changes it each time"
        )
    for each in (a, b):
        check_probabilities(each.probabilities, len(a.labels))
        check_labels(a.labels, each.probabilities)
    return a.classes == a.labels, b.classes == b.labels


@dataclass(frozen=True, slots=True)
class _Side:
    """Accuracies of runs, with their seeds where these are known."""

    accuracies: tuple[float, ...]
    seeds: tuple[int, ...] | None

    @property
    def mean(self) -> float:
        return math.fsum(self.accuracies) / len(self.accuracies)

    def in_order_of(self, seeds: tuple[int, ...] | None) -> tuple[float, ...]:
        if seeds is None or self.seeds is None:
            return self.accuracies
        found = dict(zip(self.seeds, self.accuracies, strict=True))
        return tuple(found[seed] for seed in seeds)


def _by_runs(a: _Side, b: _Side, design: DesignName, confidence: float) -> Comparison:
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


def _is_paired(a: _Side, b: _Side, design: DesignName) -> bool:
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


def _side(name: str, given: object) -> _Side:
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
    return _checked(name, [run.test.accuracy for run in given], [run.seed for run in given])


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked(name: str, values: Sequence[float], seeds: Sequence[int] | None) -> _Side:
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
    return _Side(tuple(map(float, values)), None if seeds is None else tuple(seeds))
