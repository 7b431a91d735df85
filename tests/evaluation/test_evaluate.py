from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

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

from cifarzoo import (
    EmptyLoaderError,
    ImageClassifier,
    LabelError,
    Loaders,
    OptionError,
    Preprocess,
    RangeError,
    ShapeError,
    evaluate,
)

evaluate_plainly = partial(evaluate, device="cpu", precision="float32")

Floats = npt.NDArray[np.float64]
LOGITS = st.floats(-8, 8, width=32, allow_subnormal=False)


class Given(nn.Module):
    """A model whose images are its logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _batches(logits: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    images = logits[:, :, None, None]
    return list(zip(torch.split(images, size), torch.split(labels, size), strict=True))


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(103, 5, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, 5, (103,), generator=torch.Generator().manual_seed(1))


def _probabilities(logits: Tensor) -> Floats:
    exponents = np.exp(logits.double().numpy())
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def _calibration_error(probabilities: Floats, labels: Tensor, bins: int = 15) -> float:
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    right, error = predicted == labels.numpy(), 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def test_figures_are_those_of_a_computation_by_hand(logits: Tensor, labels: Tensor) -> None:
    score = evaluate_plainly(Given(), _batches(logits, labels, 10))
    probabilities, truth = _probabilities(logits), labels.numpy()
    predicted = probabilities.argmax(1)
    confusion = np.zeros((5, 5), dtype=int)
    for true, guess in zip(truth, predicted, strict=True):
        confusion[true, guess] += 1
    assert score.n == 103
    assert score.loss == pytest.approx(-np.log(probabilities[np.arange(103), truth]).mean())
    assert score.accuracy == (predicted == truth).mean()
    assert score.confusion.tolist() == confusion.tolist()
    assert score.confusion.dtype == torch.int64
    assert score.per_class == pytest.approx(
        [(predicted[truth == k] == k).mean() for k in range(5)], abs=1e-6
    )
    interval = binomtest(int((predicted == truth).sum()), 103).proportion_ci(0.95, "wilson")
    assert score.interval == (interval.low, interval.high)
    assert score.calibration_error == pytest.approx(
        _calibration_error(probabilities, labels), abs=1e-6
    )
    assert score.tta == "none"


@given(
    numbers=arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 12)), elements=LOGITS),
    seed=st.integers(0, 99),
    size=st.integers(1, 50),
)
def test_figures_are_scikit_learns(numbers: Floats, seed: int, size: int) -> None:
    logits, classes = torch.from_numpy(numbers), list(range(numbers.shape[1]))
    truth = np.random.default_rng(seed).integers(0, len(classes), len(numbers))
    score = evaluate_plainly(Given(), _batches(logits, torch.from_numpy(truth), size))
    predicted = logits.argmax(1).numpy()
    assert score.accuracy == accuracy_score(truth, predicted)
    assert np.array_equal(score.confusion, confusion_matrix(truth, predicted, labels=classes))
    expected = log_loss(truth, logits.double().softmax(1).numpy(), labels=classes)
    assert score.loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for k, share in enumerate(score.per_class):
        if (truth == k).any():
            recall = recall_score(truth, predicted, labels=[k], average="macro", zero_division=0)
            assert share == pytest.approx(recall)
        else:
            assert math.isnan(share)


def test_calibration_error_of_a_case_that_can_be_done_in_the_head() -> None:
    """All ten are given 80 %, eight are right: no error; with six right it is 0.2."""
    logits = torch.tensor([[math.log(0.8), math.log(0.2)]]).repeat(10, 1)
    for right, error in ((8, 0.0), (6, 0.2)):
        labels = torch.tensor([0] * right + [1] * (10 - right))
        score = evaluate_plainly(Given(), _batches(logits, labels, 4))
        assert score.calibration_error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("size", [1, 7, 100, 103, 1000])
def test_every_image_counts_once_however_it_is_batched(
    logits: Tensor, labels: Tensor, size: int
) -> None:
    whole = evaluate_plainly(Given(), _batches(logits, labels, 103))
    score = evaluate_plainly(Given(), _batches(logits, labels, size))
    assert score.n == int(score.confusion.sum()) == 103
    assert (score.accuracy, score.loss) == pytest.approx((whole.accuracy, whole.loss))
    assert torch.equal(score.confusion, whole.confusion)


def test_rows_of_the_confusion_are_true_classes() -> None:
    logits = torch.eye(3)[[1, 1, 2]] * 9
    score = evaluate_plainly(Given(), _batches(logits, torch.tensor([0, 0, 2]), 3))
    assert score.confusion.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_class_without_images_has_no_accuracy() -> None:
    logits = torch.eye(3)[[0, 0, 2]] * 9
    score = evaluate_plainly(Given(), _batches(logits, torch.tensor([0, 2, 2]), 2))
    assert score.per_class[0] == 1
    assert math.isnan(score.per_class[1])
    assert score.per_class[2] == 0.5


def test_score_reads_as_a_sentence(logits: Tensor, labels: Tensor) -> None:
    score = evaluate_plainly(Given(), _batches(logits, labels, 103))
    assert str(score).startswith(f"accuracy {score.accuracy:.2%} (95 % interval ")
    assert "103 images" in str(score)
    assert "augmentation" not in str(score)


def test_score_says_that_it_is_not_of_a_single_view(
    model: ImageClassifier, loaders: Loaders
) -> None:
    score = evaluate_plainly(model, loaders.train, tta="flip_translate")
    start = f"accuracy {score.accuracy:.2%} with flip_translate test-time augmentation (95 % "
    assert str(score).startswith(start)


def test_any_loader_and_any_integer_labels_do(logits: Tensor, labels: Tensor) -> None:
    data = TensorDataset(logits[:, :, None, None], labels.to(torch.int32))
    score = evaluate_plainly(Given(), DataLoader(data, batch_size=20))
    assert score.accuracy == evaluate_plainly(Given(), _batches(logits, labels, 103)).accuracy


@pytest.mark.parametrize("tta", ["none", "flip", "flip_translate"])
def test_uint8_images_score_like_floats(model: ImageClassifier, loaders: Loaders, tta: str) -> None:
    floats = list(loaders.train)
    pixels = [((images * 255).round().to(torch.uint8), labels) for images, labels in floats]
    one = evaluate_plainly(model, floats, tta=tta)  # type: ignore[arg-type]
    two = evaluate_plainly(model, pixels, tta=tta)  # type: ignore[arg-type]
    assert one.loss == pytest.approx(two.loss)
    assert torch.equal(one.confusion, two.confusion)
    assert one.tta == tta


@pytest.mark.parametrize("tta", ["none", "flip", "flip_translate"])
def test_pixels_up_to_255_as_floats_are_refused(
    model: ImageClassifier, loaders: Loaders, tta: str
) -> None:
    images, labels = next(iter(loaders.train))
    with pytest.raises(RangeError, match="divide by 255"):
        evaluate_plainly(model, [(images * 255, labels)], tta=tta)  # type: ignore[arg-type]


def test_flips_are_averaged_as_probabilities(model: ImageClassifier, loaders: Loaders) -> None:
    images, labels = next(iter(loaders.train))
    with torch.no_grad():
        views = [model(images).softmax(1), model(images.flip(-1)).softmax(1)]
    expected = nn.functional.nll_loss(torch.stack(views).mean(0).log(), labels).item()
    score = evaluate_plainly(model, [(images, labels)], tta="flip")
    assert score.loss == pytest.approx(expected, rel=1e-5)


def test_probability_of_zero_in_one_place_does_not_spoil_the_score() -> None:
    """Certain logits make a probability of exactly 0, whose logarithm is minus infinity."""
    logits = torch.eye(4)[[0, 1, 2]] * 1e4
    images = logits[:, :, None, None].expand(3, 4, 3, 3)

    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    score = evaluate_plainly(Mean(), [(images, torch.arange(3))], tta="flip_translate")
    assert score.accuracy == 1
    assert score.loss == pytest.approx(0)
    assert score.calibration_error == pytest.approx(0)


class Counting(nn.Module):
    """Notes the modes that it ran in; its parts are in different ones."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.off = nn.Dropout(0.5), nn.Dropout(0.5)
        self.on.train()
        self.off.eval()
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((self.training, self.on.training, torch.is_grad_enabled()))
        return self.on(images.flatten(1))  # type: ignore[no-any-return]


def test_every_module_is_put_back_into_its_own_mode(logits: Tensor, labels: Tensor) -> None:
    model = Counting()
    one = evaluate_plainly(model, _batches(logits, labels, 50))
    assert set(model.seen) == {(False, False, False)}
    assert (model.training, model.on.training, model.off.training) == (True, True, False)
    assert torch.is_grad_enabled()
    assert one.loss == evaluate_plainly(model, _batches(logits, labels, 50)).loss


def test_modes_and_gradients_come_back_after_an_error(logits: Tensor, labels: Tensor) -> None:
    model = Counting()
    batches = [*_batches(logits, labels, 50), (logits[:0, :, None, None], labels[:0])]
    with pytest.raises(EmptyLoaderError):
        evaluate_plainly(model, batches)
    assert (model.training, model.on.training, model.off.training) == (True, True, False)
    assert torch.is_grad_enabled()


def test_running_statistics_are_not_touched(
    make_model: Callable[..., ImageClassifier], loaders: Loaders
) -> None:
    model = make_model(block_norm="batch").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate_plainly(model, loaders.train)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.tensor([0, 5]), "labels lie in 0..5; the model has 5 classes, so 0..4"),
        (torch.tensor([-1, 0]), "labels lie in -1..0"),
        (torch.tensor([0.0, 1.0]), "torch.float32; needed are integers"),
        (torch.tensor([True, False]), "torch.bool; needed are integers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(logits: Tensor, bad: Tensor, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        evaluate_plainly(Given(), _batches(logits[:2], bad, 2))


def test_bad_label_in_a_later_batch_is_found(logits: Tensor, labels: Tensor) -> None:
    labels[-1] = 7
    with pytest.raises(LabelError, match=r"labels lie in 0\.\.7"):
        evaluate_plainly(Given(), _batches(logits, labels, 10))


@pytest.mark.parametrize("shape", [(2, 1), (3,), (2, 5)])
def test_labels_of_another_shape_are_refused(logits: Tensor, shape: tuple[int, ...]) -> None:
    batch = logits[:2, :, None, None], torch.zeros(shape, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"needed are labels \(N,\) and logits \(N, classes\)"):
        evaluate_plainly(Given(), [batch])


def test_logits_that_are_no_logits_are_refused() -> None:
    images, labels = torch.zeros(2, 5, 1, 1), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"logits \(2, 5, 1, 1\)"):
        evaluate_plainly(nn.Identity(), [(images, labels)])
    with pytest.raises(ShapeError, match=r"\(2, 1\); needed are 2 classes or more"):
        evaluate_plainly(Given(), [(images[:, :1], labels)])


def test_empty_loader_is_refused() -> None:
    with pytest.raises(EmptyLoaderError, match="gave no batch"):
        evaluate_plainly(Given(), [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tta": "flips"}, "unknown tta 'flips'; did you mean 'flip'"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
    ],
)
def test_unknown_options_are_refused(
    logits: Tensor, labels: Tensor, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        evaluate(Given(), _batches(logits, labels, 50), **changes)  # type: ignore[arg-type]


def test_global_random_state_is_left_as_it_was(
    model: ImageClassifier,
    loaders: Loaders,
    global_state_untouched: Callable[[], AbstractContextManager[None]],
) -> None:
    with global_state_untouched():
        evaluate_plainly(model, loaders.train)


def test_bfloat16_gives_float32_logits_and_the_same_classes(
    model: ImageClassifier, loaders: Loaders
) -> None:
    plain = evaluate_plainly(model, loaders.train)
    fast = evaluate(model, loaders.train, device="cpu", precision="bfloat16")
    assert fast.loss == pytest.approx(plain.loss, rel=0.02)
    assert fast.loss != plain.loss
    assert fast.n == plain.n


def test_numbers_are_read_once_and_not_batch_by_batch(
    logits: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, to read a number is to wait for it."""
    reads, item = list[Tensor](), Tensor.item

    def noted(self: Tensor) -> float:
        reads.append(self)
        return item(self)

    monkeypatch.setattr(Tensor, "item", noted)
    evaluate_plainly(Given(), _batches(logits, labels, 50))
    few = len(reads)
    evaluate_plainly(Given(), _batches(logits, labels, 1))
    assert len(reads) == 2 * few


def test_preprocessing_of_the_model_is_part_of_what_is_scored() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.full((3, 3, 8, 8), 128, dtype=torch.uint8)
    model = ImageClassifier(Preprocess((0, 0.5, 0.9), (1, 1, 1)), network)
    score = evaluate_plainly(model, [(images, torch.zeros(3, dtype=torch.int64))])
    assert score.accuracy == 1  # 0.502, 0.002, -0.398
