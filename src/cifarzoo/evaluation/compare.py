"""Is the difference real? Two sets of runs, or two models on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal, get_args, overload

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, one_of, wrong_kind
from cifarzoo.evaluation.comparison import Comparison
from cifarzoo.evaluation.predict import Predictions, predict
from cifarzoo.evaluation.runs import DesignName, Runs, by_runs, side_of
from cifarzoo.evaluation.score import check_labels, check_probabilities
from cifarzoo.evaluation.statistics import require_confidence
from cifarzoo.spec import PrecisionName

__all__ = ["compare"]


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
    precision: PrecisionName = "auto",
    confidence: float = 0.95,
) -> Comparison: ...
def compare(
    a: Runs | Predictions | nn.Module,
    b: Runs | Predictions | nn.Module,
    *,
    data: Iterable[tuple[Tensor, Tensor]] | None = None,
    device: str | torch.device = "auto",
    precision: PrecisionName = "auto",
    design: Literal["auto", "paired", "independent"] = "auto",
    confidence: float = 0.95,
) -> Comparison:
    """Tell whether a is better than b, or a difference this large may be noise.

    Runs over several seeds compare two methods. Two models, or what they predict, are compared
    image by image: that is about these two trained models, and says nothing of what another seed
    would have given.

    Args:
        a: test accuracies in [0, 1], one a run; or a mapping from seeds to them; or runs, such as
            `train` gives, or `cifarzoo.report.load_runs` and `load_results` read. Or
            `Predictions`, or a model.
        b: the same kind of thing.
        data: batches of (images, labels) for two models, such as `loaders.test`, in the same
            order each time; only for models.
        device: for two models: "auto", or what `torch.device` takes.
        precision: for two models: "auto" is bfloat16 where the device is faster in it, else
            float32, in which cards' accuracies are scored. For test-time augmentation compare what
            `predict` gives.
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
            pairs do not fit, runs were scored over different numbers of images, data is missing
            or not for these, predictions are of different images, or a name or the confidence is
            not allowed.
        RangeError: pixels that a model does not take, or probabilities that are none.
        ShapeError: images or labels have a wrong shape.

    Source: pairs: Student's paired t-test, `scipy.stats.ttest_rel`; independent runs: Welch 1947,
        `scipy.stats.ttest_ind`; images: the exact test of McNemar 1947 by `scipy.stats.binomtest`,
        with the interval of Agresti and Min 2005 (Statistics in Medicine 24, 729-740).
    """
    if design not in get_args(DesignName):
        raise one_of("design", design, get_args(DesignName))
    require_confidence(confidence)
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        a, b = _predicted(a, b, data, device, precision)
    elif data is not None:
        raise OptionError(
            "data is given, but a and b are not both models (a name is none: build_model(name, "
            "weights='default')); leave it out"
        )
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
    return by_runs(side_of("a", a), side_of("b", b), design, confidence)


def _predicted(
    a: nn.Module,
    b: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]] | None,
    device: str | torch.device,
    precision: PrecisionName,
) -> tuple[Predictions, Predictions]:
    if data is None:
        raise OptionError("a and b are models, but data is None; pass data=loaders.test")
    if isinstance(data, Iterator | Tensor):
        raise wrong_kind("data", data, "a loader that can be gone through once for each model")
    first = predict(a, data, device=device, precision=precision)
    return first, predict(b, data, device=device, precision=precision)


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
