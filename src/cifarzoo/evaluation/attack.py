"""Adversarial images."""

from __future__ import annotations

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.evaluation.classifier import evaluation_copy, evaluation_mode
from cifarzoo.evaluation.predict import check_labels, logits_of
from cifarzoo.validation import NonNegativeFloat, PositiveFloat, PositiveInt, Seed, validate

__all__ = ["pgd_attack"]


@torch.inference_mode(mode=False)
def pgd_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 20,
    seed: int = 0,
) -> Tensor:
    """Change images so that the model's loss rises, by projected gradient descent (PGD).

    The attack starts at a random place in the box and follows the sign of the gradient of the
    cross-entropy. The model is attacked in evaluation mode, on the device of the images.

    Args:
        model: maps images to logits (N,K); its parameters get no gradient.
        images: float (N,3,H,W) in [0, 1].
        labels: true classes, int64 (N,) in 0..K-1.
        epsilon: largest change of a pixel, where pixels are in [0, 1].
        step: change of a pixel in one step.
        steps: number of steps, 1 or more; each takes a forward and a backward pass.
        seed: seed of the start, 0 or more.

    Returns:
        Float (N,3,H,W) in [0, 1], within `epsilon` of the images.

    Raises:
        InvalidTypeError: an argument has the wrong type, or the images are not floating-point.
        InvalidValueError: pixels are out of range, or another value is not accepted.

    Source: Madry et al., arXiv 1706.06083.
    """
    validate("model", model, InstanceOf[nn.Module])
    if not validate("images", images, InstanceOf[Tensor]).is_floating_point():
        raise InvalidTypeError(
            f"images are {images.dtype}: expected floats in [0, 1]; divide uint8 by 255"
        )
    if not ((images >= 0) & (images <= 1)).all():
        raise InvalidValueError("images have pixels outside [0, 1] or NaN: expected [0, 1]")
    validate("epsilon", epsilon, NonNegativeFloat)
    validate("step", step, PositiveFloat)
    validate("steps", steps, PositiveInt)
    generator = torch.Generator().manual_seed(validate("seed", seed, Seed))
    model, images = evaluation_copy(model), images.detach()
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    start = torch.rand(images.shape, generator=generator).to(images)
    adversarial = low + (high - low) * start
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            adversarial.requires_grad_()
            logits = logits_of(model, adversarial)
            check_labels(labels, logits)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            adversarial = adversarial.detach() + step * gradient.sign()
            adversarial = adversarial.clamp(low, high)
    return adversarial
