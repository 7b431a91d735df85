"""Means with 95 % confidence intervals, calibration, and the area under the ROC curve."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.predict import check_labels, check_logits
from cifarzoo.validation import NonNegativeInt, PositiveInt, validate

__all__ = [
    "Estimate",
    "accuracy_interval",
    "auroc",
    "calibration_error",
    "fit_temperature",
    "mean_and_std",
    "paired_difference",
]

_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The mean of several runs, in the unit of their values.

    Attributes:
        mean: mean of the runs.
        std: standard deviation of the runs (n - 1 in the denominator); None for one run.
        low: lower end of the 95 % interval of the mean (Student's t); None for one run.
        high: upper end of that interval; None for one run.
        n: number of runs.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


def accuracy_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy, in [0, 1].

    It covers the uncertainty due to the finite test set, not that due to the seed.

    Args:
        correct: number of correctly classified images, 0 to `total`.
        total: number of images, at least 1.

    Raises:
        InvalidTypeError: a count is not an integer.
        InvalidValueError: a count is out of range.

    Source: Wilson 1927, as implemented by `scipy.stats.binomtest`.
    """
    correct = validate("correct", correct, NonNegativeInt)
    total = validate("total", total, PositiveInt)
    if correct > total:
        raise InvalidValueError(f"correct is {correct}: expected at most the total, {total}")
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_and_std(values: Sequence[float]) -> Estimate:
    """Summarise runs that differ only in their seed.

    Args:
        values: one finite number per run, at least one.

    Raises:
        InvalidTypeError: a value is not a number.
        InvalidValueError: there are no values, or a value is not finite.
    """
    numbers = [validate("value", value, _Finite) for value in values]
    if not numbers:
        raise InvalidValueError("values is empty: expected at least one run")
    n, mean = len(numbers), statistics.fmean(numbers)
    if n == 1:
        return Estimate(mean=mean, std=None, low=None, high=None, n=1)
    from scipy.stats import t

    std = statistics.stdev(numbers)
    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Estimate(mean=mean, std=std, low=mean - half, high=mean + half, n=n)


def paired_difference(after: Sequence[float], before: Sequence[float]) -> Estimate:
    """Estimate a change, after - before, from runs with the same seeds in the same order.

    The interval is that of the paired t-test.

    Raises:
        InvalidValueError: the lengths differ, or are 0.
    """
    if len(after) != len(before):
        raise InvalidValueError(
            f"after has {len(after)} values and before {len(before)}: expected equal lengths"
        )
    return mean_and_std([new - old for new, old in zip(after, before, strict=True)])


def calibration_error(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error, in [0, 1].

    Args:
        probabilities: (N,K), rows that sum to 1.
        labels: int64 (N,) in 0..K-1.
        bins: number of equal bins of the probability of the predicted class.

    Source: arXiv 1706.04599, equation 3.
    """
    confidences, predictions = probabilities.max(1)
    edges = torch.linspace(0, 1, bins + 1, device=probabilities.device)[1:-1]
    gaps = confidences.new_zeros(bins)
    index = torch.bucketize(confidences, edges)
    gaps.index_add_(0, index, (predictions == labels).float() - confidences)
    return gaps.abs().sum().item() / len(labels)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature, in [0.01, 100], at which logits have the lowest cross-entropy.

    Divide other logits of the model by it: the predicted classes stay the same, and probabilities
    are closer to accuracies. Fit it on images that the model was not trained on, if there are any.

    Args:
        logits: float (N,K), finite.
        labels: int64 (N,) in 0..K-1.

    Raises:
        InvalidTypeError: the labels are not integers.
        InvalidValueError: logits are NaN or infinite, or a label is outside the classes.

    Example:
        >>> logits, labels = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> temperature = fit_temperature(logits, labels)
        >>> print((logits / temperature).softmax(1)[0])
        tensor([0.7500, 0.2500])

    Source: Guo et al., arXiv 1706.04599, section 4.2.
    """
    check_labels(labels, logits)
    check_logits(logits)
    from scipy.optimize import minimize_scalar

    scores, labels = logits.cpu().double(), labels.long().cpu()

    def loss(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        return nn.functional.cross_entropy(scaled, labels).item()

    bounds = (math.log(0.01), math.log(100))  # the loss has a single minimum
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)


def auroc(scores_in: Tensor, scores_out: Tensor) -> float:
    """Return the probability that a score of the first set exceeds one of the second.

    This is the area under the ROC curve, in [0, 1]; 0.5 is chance, and ties count half. To detect
    images of other classes, use the highest probability, or the energy `logits.logsumexp(1)` (arXiv
    2010.03759), of known images and of others.

    Args:
        scores_in: (N,), N >= 1, without NaN.
        scores_out: (M,), M >= 1, without NaN.

    Raises:
        InvalidValueError: a set is not one-dimensional, is empty or contains NaN.

    Example:
        >>> auroc(torch.tensor([0.9, 0.8, 0.6]), torch.tensor([0.7, 0.6]))
        0.75

    Source: the statistic of Mann and Whitney, as implemented by `scipy.stats.mannwhitneyu`.
    """
    for name, scores in (("scores_in", scores_in), ("scores_out", scores_out)):
        if scores.ndim != 1 or not len(scores) or scores.isnan().any():
            raise InvalidValueError(
                f"{name} has shape {tuple(scores.shape)}: expected (N,), N >= 1, without NaN"
            )
    from scipy.stats import mannwhitneyu

    known, other = (scores.cpu().double().numpy() for scores in (scores_in, scores_out))
    statistic = mannwhitneyu(known, other, method="asymptotic").statistic
    return float(statistic) / (len(known) * len(other))
