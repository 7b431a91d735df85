from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import Loaders
from cifarzoo.errors import EmptyLoaderError, OptionError, RangeError
from cifarzoo.evaluation.evaluate import evaluate
from cifarzoo.evaluation.predict import predict
from cifarzoo.registry import build_model
from cifarzoo.spec import TtaName


class _Means(nn.Module):
    """Logits are the mean of each colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


IMAGES = torch.rand(7, 3, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def test_probabilities_of_a_tensor_and_of_a_loader_are_the_same() -> None:
    alone = predict(_Means(), IMAGES, precision="float32")
    batches = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]
    both = predict(_Means(), batches, precision="float32")
    torch.testing.assert_close(alone.probabilities, IMAGES.mean((2, 3)).softmax(1))
    torch.testing.assert_close(alone.probabilities, both.probabilities)
    assert alone.labels is None
    assert both.labels is not None
    assert torch.equal(both.labels, LABELS)
    assert torch.equal(both.classes, IMAGES.mean((2, 3)).argmax(1))


@pytest.mark.parametrize("tta", ["none", "flip", "flip_translate"])
def test_agrees_with_evaluate(tta: str) -> None:
    torch.manual_seed(0)
    model = build_model("report_baseline")
    images, labels = torch.rand(20, 3, 32, 32), torch.randint(10, (20,))
    found = predict(model, [(images, labels)], tta=tta)  # type: ignore[arg-type]
    score = evaluate(model, [(images, labels)], tta=tta)  # type: ignore[arg-type]
    assert (found.classes == labels).float().mean().item() == pytest.approx(score.accuracy)


def test_takes_uint8_and_more_images_than_a_batch() -> None:
    model = build_model("report_baseline")
    images = torch.randint(256, (501, 3, 32, 32), dtype=torch.uint8)
    assert predict(model, images).probabilities.shape == (501, 10)


def test_refuses_what_cannot_be_read() -> None:
    with pytest.raises(EmptyLoaderError, match="holds no image"):
        predict(_Means(), IMAGES[:0])
    with pytest.raises(EmptyLoaderError, match="holds no image"):
        predict(_Means(), torch.tensor(1.0))
    with pytest.raises(OptionError, match=r"loaders\.test"):
        predict(_Means(), Loaders([(IMAGES, LABELS)]))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="data is 3"):
        predict(_Means(), 3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="unknown tta 'flips'; did you mean 'flip'"):
        predict(_Means(), IMAGES, tta="flips")  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("tta", ["none", "flip"])
def test_logits_without_probabilities_are_refused(number: float, tta: TtaName) -> None:
    class Broken(_Means):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images).clone()
            logits[images[:, 0, 0, 0] == 7, 1] = number
            return logits

    images = IMAGES.clone().float()
    images[3:5] = 7.0
    with pytest.raises(RangeError, match=rf"for 2 of {len(images)} images, .* number 3: \["):
        predict(Broken(), images, tta=tta)
    with pytest.raises(RangeError, match="NaN or infinite"):
        evaluate(Broken(), [(images, LABELS)], tta=tta)


def test_a_class_may_be_ruled_out() -> None:
    class Without(_Means):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images).clone()
            logits[:, 0] = -math.inf
            return logits

    found = predict(Without(), IMAGES).probabilities
    assert found[:, 0].eq(0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(len(IMAGES)))
