from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo import ImageClassifier, Loaders, TensorLoader, evaluate, predict
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.predict import batches_to, compute_logits
from cifarzoo.recipe import TtaName

CPU = torch.device("cpu")
IMAGES = torch.rand(7, 3, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


class Means(nn.Module):
    """A model whose logits are a function of the mean of each colour."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        self.change = change

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.change(images.mean((2, 3)))


def test_predictions_for_a_tensor_and_a_loader_are_the_same() -> None:
    alone = predict(Means(), IMAGES)
    both = predict(Means(), [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])])
    torch.testing.assert_close(alone.probabilities, IMAGES.mean((2, 3)).softmax(1))
    torch.testing.assert_close(alone.probabilities, both.probabilities)
    assert alone.labels is None
    assert both.labels is not None
    assert torch.equal(both.labels, LABELS)
    assert torch.equal(both.classes, IMAGES.mean((2, 3)).argmax(1))


@pytest.mark.parametrize("tta", ["none", "flip", "flip_translate"])
def test_predictions_agree_with_evaluate(
    model: ImageClassifier, loaders: Loaders, tta: TtaName
) -> None:
    found = predict(model, loaders.train, tta=tta)
    score = evaluate(model, loaders.train, tta=tta)
    assert found.labels is not None
    assert (found.classes == found.labels).float().mean().item() == pytest.approx(score.accuracy)
    chosen = found.probabilities.gather(1, found.labels[:, None])
    assert score.loss == pytest.approx(-chosen.log().mean().item(), rel=1e-5)


def test_logits_are_in_the_order_of_the_loader(model: ImageClassifier, loaders: Loaders) -> None:
    assert loaders.val is not None
    logits, labels = compute_logits(model, loaders.val, device=CPU, dtype=torch.float32)
    assert labels.tolist() == [i % 10 for i in range(20)]
    with torch.no_grad():
        parts = [model.eval()(images) for images, _ in loaders.val]
    torch.testing.assert_close(logits, torch.cat(parts))


def test_tensor_loader_is_moved_once(
    model: ImageClassifier, loaders: Loaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[object] = []

    def to(self: TensorLoader, device: torch.device) -> TensorLoader:
        moves.append(device)
        return self

    monkeypatch.setattr(TensorLoader, "to", to)
    evaluate(model, loaders.train, device="cpu")
    assert moves == [CPU]


def test_batches_are_channels_last() -> None:
    ((moved, _), (features, _)) = batches_to([(IMAGES, LABELS), (IMAGES.flatten(1), LABELS)], CPU)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, IMAGES)
    assert torch.equal(features, IMAGES.flatten(1))


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_logits_that_are_not_finite_are_rejected(number: float, tta: TtaName) -> None:
    broken = Means(lambda logits: logits.where(logits < 7, number))
    images = IMAGES.clone()
    images[3:5] = 7.0
    for function in (predict, evaluate):
        with pytest.raises(InvalidValueError, match="2 of 7 images are NaN or infinite"):
            function(broken, [(images, LABELS)], tta=tta)


def test_negative_infinity_excludes_a_class() -> None:
    found = predict(Means(lambda logits: logits.index_fill(1, LABELS[:1], -math.inf)), IMAGES)
    assert found.probabilities[:, 0].eq(0).all()
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(7))


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "message"),
    [
        ("resnet20", IMAGES, {}, InvalidTypeError, "model is a str"),
        (Means(), 3, {}, InvalidTypeError, "data is a int"),
        (Means(), Loaders([(IMAGES, LABELS)]), {}, InvalidTypeError, r"loaders\.test"),
        (Means(), [IMAGES], {}, InvalidTypeError, "pair"),
        (Means(), [], {}, InvalidValueError, "empty"),
        (Means(), [(IMAGES[:0], LABELS[:0])], {}, InvalidValueError, r"shape \(0, 3, 8, 8\)"),
        (Means(lambda logits: logits[:, 0]), IMAGES, {}, InvalidValueError, "expected logits"),
        (nn.Conv2d(3, 2, 1), IMAGES.to(torch.uint8), {}, InvalidTypeError, "convert .* float32"),
        (Means(), IMAGES, {"tta": "flips"}, InvalidValueError, "did you mean 'flip'"),
        (Means(), IMAGES, {"precision": "float16"}, InvalidValueError, "precision"),
    ],
)
def test_errors_say_what_is_wrong(
    model: Any,  # noqa: ANN401
    data: Any,  # noqa: ANN401
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        predict(model, data, **options)
