"""Significance tests for differences in accuracy."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from typing_extensions import TypeIs, override

from cifarzoo.data.loader import Batch
from cifarzoo.display import HasTable, Table
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.classifier import Classifier, is_classifier
from cifarzoo.evaluation.predict import (
    Predictions,
    check_labels,
    check_probabilities,
    predict,
    require_classes,
)
from cifarzoo.recipe import PrecisionName
from cifarzoo.record import RunRecord
from cifarzoo.validation import UnitInterval, validate

__all__ = ["Comparison", "compare"]

DesignName: TypeAlias = Literal["auto", "paired", "independent"]

_NO_SPREAD = 1e-6  # smaller differences between accuracies are float32 rounding

Runs: TypeAlias = Sequence[float] | Sequence[RunRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(HasTable):
    """The difference between two accuracies, and whether it is larger than chance.

    Attributes:
        accuracy_a: accuracy of a, or its mean over the runs, in [0, 1].
        accuracy_b: accuracy of b, or its mean over the runs, in [0, 1].
        difference: accuracy of a minus accuracy of b, in [-1, 1]; 0.01 is one point.
        low: lower end of the 95 % interval of the difference; None for a single run or runs without
            spread.
        high: upper end of that interval, or None.
        p_value: p-value of a two-sided test, or None; 1 if a and b are equal and have no spread.
        test: name of the test.
        n: numbers of runs, or of images, of a and of b.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired t-test", "Welch's t-test", "exact McNemar test"]
    n: tuple[int, int]

    @property
    def verdict(self) -> Literal["clear", "may be noise", "cannot tell"]:
        """The result in words; "clear" if the interval excludes 0 and p is below 0.05."""
        if self.p_value is None:
            return "cannot tell"
        excludes_zero = self.low is not None and self.high is not None and self.low * self.high > 0
        return "clear" if excludes_zero and self.p_value < 0.05 else "may be noise"

    @override
    def __str__(self) -> str:
        (_, difference), (level, interval), (test, p), (_, over), (_, verdict) = self._rows()
        return f"a - b: {difference} ({level} {interval}), {test} over {over}, {p}: {verdict}"

    @override
    def table(self) -> Table:
        accuracies = [
            ("accuracy of a", f"{self.accuracy_a:.2%}"),
            ("accuracy of b", f"{self.accuracy_b:.2%}"),
        ]
        note = "holds for these two trained models, not for other seeds of their methods"
        return Table(
            title="Comparison",
            header=("what", "value"),
            rows=(*accuracies, *self._rows()),
            numbers=("value",),
            note=note if self.test == "exact McNemar test" else "",
        )

    def _rows(self) -> list[tuple[str, str]]:
        interval, p = "unknown", "no p-value"
        if self.low is not None and self.high is not None:
            interval = f"{_points(self.low)} to {_points(self.high)}"
        if self.p_value is not None:
            p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        n_a, n_b = self.n
        pairs = "pair of runs" if n_a == 1 else "pairs of runs"
        units = {"paired t-test": pairs, "exact McNemar test": "images"}
        over = f"{n_a:,} {units[self.test]}" if self.test in units else f"{n_a} and {n_b} runs"
        few = " from a single run" if min(self.n) < 2 else " from runs without spread"
        return [
            ("a - b", f"{_points(self.difference)} points"),
            ("95 % interval", interval),
            (self.test, p),
            ("over", over),
            ("verdict", self.verdict + (few if self.p_value is None else "")),
        ]


def _points(difference: float) -> str:
    return f"{round(100 * difference, 2) + 0.0:+.2f}"  # + 0.0 turns -0.0 into 0.0


def compare(
    a: Runs | Predictions | Classifier,
    b: Runs | Predictions | Classifier,
    *,
    data: Iterable[Batch] | None = None,
    design: DesignName = "auto",
    device: str | torch.device = "auto",
    precision: PrecisionName = "float32",
) -> Comparison:
    """Test whether two accuracies differ by more than chance.

    Runs over several seeds compare two methods. Two models, or their predictions, are compared
    image by image; the result holds for these two models and says nothing about other seeds.

    Args:
        a: test accuracies in [0, 1], one per run; or runs, as `train` returns them; or
            `Predictions`; or a model, as `predict` takes it.
        b: the same kind of object as a.
        data: batches of (images, labels) for two models, such as `loaders.test`, unshuffled.
        design: design of the test for runs. "auto" pairs runs if a and b have the same seeds, and
            treats everything else as independent. "paired" also pairs plain accuracies, by
            position. "independent" never pairs. Choose before looking at the results.
        device: device for two models: "auto", or anything that `torch.device` accepts.
        precision: precision for two models, as in `evaluate`.

    Raises:
        InvalidTypeError: a and b are of different or unsupported kinds.
        InvalidValueError: no runs, an accuracy outside [0, 1], a missing test score, a repeated
            seed, runs that cannot be paired, predictions for different images, or `data` is missing
            or not needed.

    Source: for runs, the paired t-test (`scipy.stats.ttest_rel`) or Welch's (`ttest_ind`); for
        images, McNemar's exact test (`binomtest`) with the interval of Agresti and Min 2005
        (Statistics in Medicine 24, 729-740).

    Example:
        >>> compare([0.791, 0.808, 0.806], [0.775, 0.767, 0.760], design="paired").verdict
        'may be noise'
    """
    validate("design", design, DesignName)
    if is_classifier(a) and is_classifier(b):
        if data is None or isinstance(data, Iterator):
            raise InvalidValueError(
                f"data is {data}: expected a loader such as loaders.test, for two models"
            )
        a = predict(a, data, device=device, precision=precision)
        b = predict(b, data, device=device, precision=precision)
        for each in (a, b):
            require_classes(data, each.probabilities.shape[1])
    elif data is not None:
        raise InvalidValueError("data is set: expected None except for two models")
    if isinstance(a, Predictions) and isinstance(b, Predictions):
        return _compare_images(a, b)
    if not (_may_be_runs(a) and _may_be_runs(b)):
        raise InvalidTypeError(
            f"a is a {type(a).__name__} and b a {type(b).__name__}: expected two models, two "
            "Predictions, or lists of runs or accuracies; load_runs(folder) reads runs"
        )
    return _compare_runs(a, b, design)


def _may_be_runs(side: Runs | Predictions | Classifier) -> TypeIs[Runs]:
    kinds = (str, Path, RunRecord, Real, Predictions)
    return not isinstance(side, kinds) and not is_classifier(side)


def _compare_images(a: Predictions, b: Predictions) -> Comparison:
    from scipy.stats import binomtest, norm

    correct_a, correct_b = _correct(a), _correct(b)
    if a.labels is None or b.labels is None or not torch.equal(a.labels, b.labels):
        raise InvalidValueError(
            "a and b have different labels: expected the same images in the same order, as an "
            "unshuffled loader yields them"
        )
    n = len(correct_a)
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    discordant = only_a + only_b
    # Agresti and Min add half an image to each of the four cells.
    centre = (only_a - only_b) / (n + 2)
    variance = ((discordant + 1) / (n + 2) - centre**2) / (n + 2)
    half = float(norm.ppf(0.975)) * math.sqrt(variance)
    return Comparison(
        accuracy_a=int(correct_a.sum()) / n,
        accuracy_b=int(correct_b.sum()) / n,
        difference=(only_a - only_b) / n,
        low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
        p_value=float(binomtest(only_a, discordant).pvalue) if discordant else 1.0,
        test="exact McNemar test",
        n=(n, n),
    )


def _correct(predictions: Predictions) -> Tensor:
    """Return which images are classified correctly, bool (N,)."""
    labels = predictions.labels
    if labels is None or not len(labels):
        raise InvalidValueError("predictions have no labels: expected those of a loader")
    check_labels(labels, check_probabilities(predictions.probabilities, len(labels)))
    return predictions.classes == labels


def _compare_runs(a: Runs, b: Runs, design: DesignName) -> Comparison:
    by_key_a, by_key_b = _accuracies("a", a), _accuracies("b", b)
    is_same = by_key_a.keys() == by_key_b.keys()
    if design == "paired" and not is_same:
        raise InvalidValueError(
            f"cannot pair runs {list(by_key_a)} of a with runs {list(by_key_b)} of b: expected "
            "equal seeds, or design='independent'"
        )
    paired = design == "paired" or (design == "auto" and is_same and _are_runs(a) and _are_runs(b))
    ours = list(by_key_a.values())
    theirs = [by_key_b[key] for key in (by_key_a if paired else by_key_b)]
    low, high, p_value = _t_test(ours, theirs, paired)
    mean_a, mean_b = statistics.fmean(ours), statistics.fmean(theirs)
    return Comparison(
        accuracy_a=mean_a,
        accuracy_b=mean_b,
        difference=mean_a - mean_b,
        low=low,
        high=high,
        p_value=p_value,
        test="paired t-test" if paired else "Welch's t-test",
        n=(len(ours), len(theirs)),
    )


def _are_runs(side: Runs) -> TypeIs[Sequence[RunRecord]]:
    return all(hasattr(item, "seed") and hasattr(item, "test") for item in side)


def _accuracies(name: str, side: Runs) -> dict[int, float]:
    """Return checked accuracies by seed, or by position if there are no seeds."""
    if not len(side):
        raise InvalidValueError(f"{name} is empty: expected at least one accuracy or run")
    if not _are_runs(side):
        found = dict(enumerate(side))
    elif any(run.test is None for run in side):
        raise InvalidValueError(f"{name} has a run without a test score: expected one in each")
    else:
        found = {run.seed: run.test.accuracy for run in side if run.test is not None}
    if len(found) < len(side):
        raise InvalidValueError(f"{name} has runs with the same seed: expected different ones")
    return {key: validate(f"accuracy of {name}", v, UnitInterval) for key, v in found.items()}


def _t_test(
    a: Sequence[float], b: Sequence[float], paired: bool
) -> tuple[float | None, float | None, float | None]:
    """Return both ends of the interval and the p-value."""
    from scipy.stats import ttest_ind, ttest_rel

    if min(len(a), len(b)) < 2:
        return None, None, None
    varying = [[x - y for x, y in zip(a, b, strict=True)]] if paired else [a, b]
    if all(max(values) - min(values) < _NO_SPREAD for values in varying):
        return None, None, 1.0 if abs(a[0] - b[0]) < _NO_SPREAD else None
    with warnings.catch_warnings():  # scipy warns if a or b has no spread
        warnings.simplefilter("ignore", RuntimeWarning)
        result = ttest_rel(a, b) if paired else ttest_ind(a, b, equal_var=False)
    interval = result.confidence_interval(0.95)
    return float(interval.low), float(interval.high), float(result.pvalue)
