"""Mixing and distillation against plain arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Distillation, Mixing, Recipe
from cifarzoo.errors import InvalidValueError
from cifarzoo.training.loss import Mixed, mix, training_loss

LABELS = torch.tensor([0, 1, 2, 1])


def _images(n: int = 4) -> Tensor:
    """Return images of constant brightness i / n."""
    return (torch.arange(n).float() / n).view(n, 1, 1, 1).expand(n, 3, 8, 8).clone()


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_and_labels_are_mixed_with_the_same_weights(
    kind: Literal["mixup", "cutmix"],
) -> None:
    torch.manual_seed(3)
    images = _images()
    batch = mix(images, LABELS, Mixing(kind=kind), 0)
    assert images.min() <= batch.images.min() <= batch.images.max() <= images.max()
    assert batch.weights is not None
    torch.testing.assert_close(batch.weights.sum(1), torch.ones(4))
    brightness = batch.weights @ (torch.arange(4) / 4)
    torch.testing.assert_close(batch.images.mean((1, 2, 3)), brightness, atol=1e-5, rtol=0)
    assert not torch.equal(batch.images, images)
    assert torch.equal(images, _images()), "the original batch changed"
    assert max(len(image.unique()) for image in batch.images) == (1 if kind == "mixup" else 2)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_share_is_the_fraction_of_mixed_batches(share: float) -> None:
    mixing = Mixing(kind="mixup", share=share)
    mixed = sum(mix(_images(2), LABELS[:2], mixing, 0).weights is not None for _ in range(400))
    assert mixed == pytest.approx(400 * share, abs=4 * math.sqrt(400 * share * (1 - share)))


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (1.5, 0.15), (5, 0.5), (8, 0.5)])
def test_share_grows_linearly(epoch: float, share: float) -> None:
    mixing = Mixing(kind="mixup", share=0.5, ramp_epochs=5)
    mixed = sum(mix(_images(2), LABELS[:2], mixing, epoch).weights is not None for _ in range(400))
    assert mixed == pytest.approx(400 * share, abs=4 * math.sqrt(400 * share * (1 - share)))


def test_either_uses_both_kinds() -> None:
    colours: Counter[int] = Counter()
    for _ in range(100):
        batch = mix(_images(2), LABELS[:2], Mixing(kind="either"), 0)
        colours[max(len(image.unique()) for image in batch.images)] += 1
    assert colours[1] > 25  # mixup, or cutmix with an empty rectangle
    assert colours[2] > 25  # cutmix


def test_loss_is_cross_entropy() -> None:
    logits, recipe = torch.randn(4, 3), Recipe(label_smoothing=0.1)
    expected = nn.functional.cross_entropy(logits, LABELS, label_smoothing=0.1)
    assert training_loss(logits, mix(_images(), LABELS, None, 0), recipe) == expected
    unmixed = Mixed(_images(), LABELS, torch.eye(4))
    assert training_loss(logits, unmixed, recipe).item() == pytest.approx(expected.item())


def test_loss_of_a_mixed_batch_weights_the_labels() -> None:
    weights = torch.tensor([[0.75, 0.25, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]])
    batch, logits = Mixed(_images(), LABELS, weights), torch.randn(4, 3)
    targets = torch.tensor([[0.75, 0.25, 0], [0, 0.6, 0.4], [0, 0, 1], [0, 1, 0]])
    expected = nn.functional.cross_entropy(logits, targets)
    assert training_loss(logits, batch, Recipe()).item() == pytest.approx(expected.item())
    assert batch.main_labels().tolist() == [0, 1, 2, 1]


def test_distillation_loss_follows_its_formula() -> None:
    """T² KL(teacher/T, student/T), arXiv 1503.02531."""
    logits, teacher_logits = torch.randn(4, 3), torch.randn(4, 3)
    batch = mix(_images(), LABELS, None, 0)
    recipe = Recipe(distillation=Distillation(teacher="any", temperature=2.0, share=0.75))
    p, q = (teacher_logits / 2).softmax(1), (logits / 2).softmax(1)
    distance = 4 * (p * (p.log() - q.log())).sum(1).mean()
    plain = nn.functional.cross_entropy(logits, LABELS)
    found = training_loss(logits, batch, recipe, teacher_logits=teacher_logits)
    assert found.item() == pytest.approx((0.25 * plain + 0.75 * distance).item(), rel=1e-5)


def test_teacher_with_another_number_of_classes_is_rejected() -> None:
    recipe, batch = Recipe(distillation=Distillation(teacher="any")), Mixed(_images(), LABELS)
    with pytest.raises(InvalidValueError, match="100 classes: expected 3"):
        training_loss(torch.zeros(4, 3), batch, recipe, teacher_logits=torch.zeros(4, 100))
