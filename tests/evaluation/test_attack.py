from __future__ import annotations

import pytest
import torch
from torch import nn

from cifarzoo import ImageClassifier, Loaders, Recipe, evaluate, fit
from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.attack import pgd_attack

EPSILON = 8 / 255


def test_attack_lowers_the_accuracy_within_its_box(
    model: ImageClassifier, loaders: Loaders, recipe: Recipe
) -> None:
    fit(model, loaders, Recipe(epochs=12, batch_size=8, lr=0.05), progress=False)
    model.train()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert loaders.test is not None
    clean = evaluate(model, loaders.test)
    attacked = []
    for images, labels in loaders.test:
        found = pgd_attack(model, images, labels, epsilon=0.2, step=0.05)
        assert found.shape == images.shape
        assert (found - images).abs().max() <= 0.2 + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
        assert not found.requires_grad
        assert torch.equal(found, pgd_attack(model, images, labels, epsilon=0.2, step=0.05))
        attacked.append((found, labels))
    assert evaluate(model, attacked).accuracy < clean.accuracy - 0.3
    assert model.training
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))


def test_attack_on_a_linear_model_ends_in_the_corner_of_its_box() -> None:
    """The gradient has the same sign everywhere, so that every pixel moves as far as it may."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    weight = torch.tensor([1.0, -1.0] * 6)
    model[1].weight.data = torch.stack([-weight, weight])
    images = torch.full((2, 3, 2, 2), 0.5)
    images[1, 0, 0, 0] = 0.99
    found = pgd_attack(model, images, torch.tensor([0, 0]))
    expected = (images + EPSILON * weight.view(1, 3, 2, 2)).clamp(0, 1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_start_depends_on_the_seed(model: ImageClassifier) -> None:
    images, labels = torch.full((2, 3, 32, 32), 0.5), torch.tensor([0, 1])
    one, other = (pgd_attack(model, images, labels, steps=1, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_invalid_arguments_are_rejected(model: ImageClassifier) -> None:
    images, labels = torch.zeros(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(InvalidTypeError, match="divide uint8 by 255"):
        pgd_attack(model, images.byte(), labels)
    with pytest.raises(InvalidTypeError, match=r"model .* Module"):
        pgd_attack(lambda x: x, images, labels)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="outside"):
        pgd_attack(model, images + 2, labels)
    with pytest.raises(InvalidValueError, match="labels"):
        pgd_attack(model, images, labels + 9)
    with pytest.raises(InvalidValueError, match="steps"):
        pgd_attack(model, images, labels, steps=0)
