"""Mixed labels and a teacher's answers, against plain arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cifarzoo import Distillation, Mixing, OptionError, Recipe
from cifarzoo.spec import MixingName
from cifarzoo.training.loss import Mixed, answers, mix, training_loss

LABELS = torch.tensor([0, 1, 2, 1])


def _images(n: int = 4) -> Tensor:
    """Images of one brightness each: i / n."""
    return (torch.arange(n).float() / n).view(n, 1, 1, 1).expand(n, 3, 8, 8).clone()


def test_without_mixing_a_batch_is_as_it_was() -> None:
    images = _images()
    batch = mix(images, LABELS, None)
    assert batch.images is images
    assert torch.equal(batch.targets(torch.zeros(4, 3)), LABELS)
    assert torch.equal(batch.main_labels(), LABELS)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_and_labels_are_mixed_in_the_same_shares(kind: MixingName) -> None:
    torch.manual_seed(3)
    images = _images()
    batch = mix(images, LABELS, Mixing(kind=kind))
    assert batch.parts is not None
    assert torch.allclose(batch.parts.sum(1), torch.ones(4))
    brightness = batch.parts @ (torch.arange(4) / 4)
    assert torch.allclose(batch.images.mean((1, 2, 3)), brightness, atol=1e-5)
    assert not torch.equal(batch.images, images)
    assert torch.equal(images, _images()), "the batch that came in is not changed"
    values = [len(image.unique()) for image in batch.images]
    assert max(values) == (1 if kind == "mixup" else 2)


def test_targets_are_the_shares_of_each_class() -> None:
    parts = torch.tensor([[0.75, 0.25, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]])
    batch = Mixed(_images(), LABELS, parts)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 0.6, 0.4], [0, 0, 1], [0, 1, 0]])
    assert torch.allclose(batch.targets(torch.zeros(4, 3)), expected)
    assert batch.main_labels().tolist() == [0, 1, 2, 1]


def test_bytes_become_shares_of_white() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    torch.manual_seed(0)
    batch = mix(pixels, LABELS[:2], Mixing(kind="mixup"))
    assert batch.images.dtype == torch.float32
    assert 0 < batch.images[0].mean() < 1


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_share_of_the_batches_is_mixed(share: float) -> None:
    torch.manual_seed(0)
    mixing = Mixing(kind="mixup", share=share)
    mixed = sum(mix(_images(2), LABELS[:2], mixing).parts is not None for _ in range(400))
    assert mixed == pytest.approx(400 * share, abs=4 * math.sqrt(400 * share * (1 - share)))


def test_either_takes_both_kinds() -> None:
    torch.manual_seed(0)
    found: Counter[int] = Counter()
    for _ in range(100):
        batch = mix(_images(2), LABELS[:2], Mixing(kind="either"))
        found[max(len(image.unique()) for image in batch.images)] += 1
    assert found[1] > 25  # mixup; and cutmix whose rectangle was empty
    assert found[2] > 25  # cutmix


def test_loss_is_cross_entropy_over_the_targets() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3)
    recipe = Recipe(label_smoothing=0.1)
    found = training_loss(logits, mix(_images(), LABELS, None), recipe)
    assert found == nn.functional.cross_entropy(logits, LABELS, label_smoothing=0.1)
    whole = Mixed(_images(), LABELS, torch.eye(4))
    assert training_loss(logits, whole, recipe).item() == pytest.approx(found.item())


def test_distance_to_a_teacher_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    logits, taught = torch.randn(4, 3), torch.randn(4, 3)
    batch = mix(_images(), LABELS, None)
    recipe = Recipe(distillation=Distillation(teacher="any", temperature=2.0, share=0.75))
    p, q = (taught / 2).softmax(1), (logits / 2).softmax(1)
    distance = 4 * (p * (p.log() - q.log())).sum(1).mean()
    plain = nn.functional.cross_entropy(logits, LABELS)
    found = training_loss(logits, batch, recipe, taught=taught)
    assert found.item() == pytest.approx((0.25 * plain + 0.75 * distance).item(), rel=1e-5)
    bare = training_loss(logits, batch, replace(recipe, distillation=None), taught=taught)
    assert bare == plain


def test_images_of_any_range_are_mixed_within_it() -> None:
    torch.manual_seed(0)
    images = 20 * _images() - 10
    for kind in ("mixup", "cutmix"):
        mixed = mix(images, LABELS, Mixing(kind=kind)).images
        assert mixed.min() >= images.min()
        assert mixed.max() <= images.max()
        assert mixed.min() < -1


def test_bytes_are_scaled_whether_they_are_mixed_or_not() -> None:
    pixels = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    for _ in range(20):
        assert mix(pixels, LABELS[:2], Mixing(share=0.5)).images.max() == 1


def test_teacher_of_other_classes_is_refused() -> None:
    recipe = Recipe(distillation=Distillation(teacher="any"))
    for classes in (1, 100):
        with pytest.raises(OptionError, match=rf"\(4, {classes}\) and the model's \(4, 3\)"):
            training_loss(
                torch.zeros(4, 3),
                mix(_images(), LABELS, None),
                recipe,
                taught=torch.zeros(4, classes),
            )


def test_teacher_answers_without_a_gradient() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    found = answers(teacher, _images())
    assert found is not None
    assert not found.requires_grad
    assert found.shape == (4, 3)
    assert answers(None, _images()) is None
