from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from cifarzoo import ImageClassifier, Loaders, evaluate, predict
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.recipe import PrecisionName, TtaName

Floats = npt.NDArray[np.float64]
LOGITS = st.floats(-8, 8, width=32, allow_subnormal=False)


class Given(nn.Module):
    """A model that returns its images as logits."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _batches(logits: Tensor, labels: Tensor, size: int = 50) -> list[tuple[Tensor, Tensor]]:
    images = logits[:, :, None, None]
    return list(zip(torch.split(images, size), torch.split(labels, size), strict=True))


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(103, 5, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, 5, (103,), generator=torch.Generator().manual_seed(1))


@given(
    numbers=arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 12)), elements=LOGITS),
    seed=st.integers(0, 99),
    size=st.integers(1, 50),
)
def test_scores_equal_those_of_scikit_learn_for_any_batch_size(
    numbers: Floats, seed: int, size: int
) -> None:
    logits, classes = torch.from_numpy(numbers), list(range(numbers.shape[1]))
    truth = np.random.default_rng(seed).integers(0, len(classes), len(numbers))
    score = evaluate(Given(), _batches(logits, torch.from_numpy(truth), size))
    predicted = logits.argmax(1).numpy()
    assert score.n == len(truth)
    assert score.accuracy == accuracy_score(truth, predicted)
    assert score.confusion is not None
    assert np.array_equal(score.confusion, confusion_matrix(truth, predicted, labels=classes))
    expected = log_loss(truth, logits.double().softmax(1).numpy(), labels=classes)
    assert score.loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    correct = int((predicted == truth).sum())
    interval = binomtest(correct, len(truth)).proportion_ci(0.95, "wilson")
    assert score.interval == (interval.low, interval.high)
    for k, accuracy in enumerate(score.per_class):
        if (truth == k).any():
            recall = recall_score(truth, predicted, labels=[k], average="macro", zero_division=0)
            assert accuracy == pytest.approx(recall)
        else:
            assert math.isnan(accuracy)


def test_calibration_error_by_hand() -> None:
    """With a confidence of 0.8, the error is 0 if 8 of 10 images are correct, 0.2 if 6 are."""
    logits = torch.tensor([[math.log(0.8), math.log(0.2)]]).repeat(10, 1)
    for correct, error in ((8, 0.0), (6, 0.2)):
        labels = torch.tensor([0] * correct + [1] * (10 - correct))
        score = evaluate(Given(), _batches(logits, labels))
        assert score.calibration_error == pytest.approx(error, abs=1e-6)


INTEGERS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_torch_loaders_and_any_integer_labels_are_accepted(
    logits: Tensor, labels: Tensor, dtype: torch.dtype
) -> None:
    data = TensorDataset(logits[:, :, None, None], labels.to(dtype))
    loader = DataLoader(data, batch_size=20)
    assert evaluate(Given(), loader).accuracy == accuracy_score(labels, logits.argmax(1))
    mixed = [*loader, *_batches(logits, labels)]
    assert predict(Given(), mixed).labels.tolist() == 2 * labels.tolist()  # type: ignore[union-attr]
    with pytest.raises(InvalidValueError, match=r"0\.\.9: expected 0\.\.4"):
        evaluate(Given(), [(logits[:2, :, None, None], torch.tensor([0, 9], dtype=dtype))])


@pytest.mark.parametrize("tta", get_args(TtaName))
def test_uint8_and_float_images_have_the_same_score(
    model: ImageClassifier, loaders: Loaders, tta: TtaName
) -> None:
    floats = list(loaders.train)
    pixels = [((images * 255).round().to(torch.uint8), labels) for images, labels in floats]
    one, two = (evaluate(model, data, tta=tta) for data in (floats, pixels))
    assert one.loss == pytest.approx(two.loss)
    assert one.accuracy == two.accuracy
    assert one.tta == tta
    with pytest.raises(InvalidValueError, match="divide by 255"):
        evaluate(model, [(images * 255, labels) for images, labels in floats], tta=tta)


def test_tta_averages_probabilities(model: ImageClassifier, loaders: Loaders) -> None:
    images, labels = next(iter(loaders.train))
    with torch.no_grad():
        mean = (model.eval()(images).softmax(1) + model(images.flip(-1)).softmax(1)) / 2
    expected = nn.functional.nll_loss(mean.log(), labels).item()
    assert evaluate(model, [(images, labels)], tta="flip").loss == pytest.approx(expected, rel=1e-5)


def test_adaptive_tta_averages_over_views_of_the_least_confident_quarter() -> None:
    sizes: list[int] = []

    class Counted(nn.Flatten):
        @override
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return 5 * super().forward(images[:, :1, :1])

    torch.manual_seed(1)
    batch = (torch.rand(10, 3, 3, 3), torch.zeros(10, dtype=torch.int64))
    plain, all_views, found = (
        predict(Counted(), [batch], device="cpu", tta=tta).probabilities
        for tta in ("none", "flip_translate", "adaptive")
    )
    assert sizes == [10, *[10] * 6, 10, *[3] * 5]
    unsure = plain.amax(1).argsort()[:3]
    expected = plain.index_copy(0, unsure, all_views[unsure])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(plain, all_views)


def test_loss_with_tta_is_finite_for_extreme_logits() -> None:
    class Certain(nn.Module):
        @override
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 500.0]]).expand(len(images), 2)

    batch = [(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))]
    for tta in get_args(TtaName):
        assert evaluate(Certain(), batch, device="cpu", tta=tta).loss == pytest.approx(250)


def test_model_and_random_state_are_unchanged(
    make_model: Callable[..., ImageClassifier],
    loaders: Loaders,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    model = make_model(batch_norm=True, dropout=0.5).train()
    next(model.network.children()).eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with global_state_untouched():
        first = evaluate(model, loaders.train)
        with pytest.raises(InvalidValueError):
            evaluate(model, [])
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert evaluate(model, loaders.train).loss == first.loss


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.tensor([0, 5]), InvalidValueError, r"in 0\.\.5: expected 0\.\.4"),
        (torch.tensor([-1, 0]), InvalidValueError, r"in -1\.\.0"),
        (torch.tensor([True, False]), InvalidTypeError, r"torch\.bool: expected integers"),
        (torch.zeros(2, 1, dtype=torch.int64), InvalidValueError, r"labels have shape \(2, 1\)"),
    ],
)
def test_labels_that_are_not_classes_are_rejected(
    logits: Tensor, bad: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(Given(), [(logits[:2, :, None, None], bad)])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_loss_is_that_of_torch_in_the_same_precision(
    model: ImageClassifier, loaders: Loaders, precision: PrecisionName
) -> None:
    images, labels = next(iter(loaders.train))
    model.eval().to(memory_format=torch.channels_last)
    pixels = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(pixels)
    assert logits.dtype == getattr(torch, precision)
    expected = nn.functional.cross_entropy(logits.float(), labels).item()
    score = evaluate(model, [(images, labels)], device="cpu", precision=precision)
    assert score.loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.rand(2, 3, 4, 4), "data is a Tensor: expected batches"),
        (np.zeros((2, 3, 4, 4)), "data is a ndarray: expected batches"),
        ("cifar10", "data is a str: expected batches"),
        ([torch.rand(3, 4, 4)], "data is a list: expected batches"),
        ((torch.rand(2, 3, 4, 4), torch.zeros(2).long()), r"expected .*\[\(images, labels\)\]"),
    ],
)
def test_data_without_labels_is_named(data: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidTypeError, match=message):
        evaluate(Given(), data)


def test_number_of_reads_does_not_depend_on_the_number_of_batches(
    logits: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read synchronizes a GPU."""
    reads, item = list[Tensor](), Tensor.item

    def noted(self: Tensor) -> float:
        reads.append(self)
        return item(self)

    monkeypatch.setattr(Tensor, "item", noted)
    evaluate(Given(), _batches(logits, labels, 50))
    few = len(reads)
    evaluate(Given(), _batches(logits, labels, 1))
    assert len(reads) == 2 * few
