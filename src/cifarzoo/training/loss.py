"""The training loss, with mixed images and labels, and distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from pydantic import InstanceOf
from torch import Tensor, nn

from cifarzoo.errors import InvalidValueError
from cifarzoo.recipe import Mixing, Recipe
from cifarzoo.validation import validate

__all__ = ["Loss", "Mixed", "mix", "resize", "training_loss"]

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # from logits and targets to a mean


@dataclass(frozen=True, slots=True)
class Mixed:
    """A batch whose images may be mixtures of the original images.

    Attributes:
        images: images (N,3,H,W), mixed or original.
        labels: labels of the original images, int64 (M,).
        weights: weight of each original image (column) in each image (row), float (N,M); None if
            nothing was mixed, so that M is N.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor | None = None

    def targets(self, logits: Tensor) -> Tensor:
        """Return labels (N,), or probabilities (N,K), for logits (N,K)."""
        if self.weights is None:
            return self.labels.long()
        classes = nn.functional.one_hot(self.labels.long(), logits.shape[1])
        return self.weights.to(logits.dtype) @ classes.to(logits.dtype)

    def main_labels(self) -> Tensor:
        """Return the label with the largest weight in each image, (N,)."""
        return self.labels if self.weights is None else self.labels[self.weights.argmax(1)]

    def split(self, count: int) -> list[Mixed]:
        """Divide the batch into parts."""
        if count == 1:
            return [self]
        images = self.images.tensor_split(count)
        if self.weights is None:
            labels = self.labels.tensor_split(count)
            return [Mixed(*pair) for pair in zip(images, labels, strict=True)]
        weights = self.weights.tensor_split(count)
        return [Mixed(i, self.labels, w) for i, w in zip(images, weights, strict=True)]


def mix(images: Tensor, labels: Tensor, mixing: Mixing | None, epoch: float) -> Mixed:
    """Mix the images of a batch with torchvision's `MixUp` and `CutMix`.

    Args:
        images: uint8 or float (N,3,H,W); mixing converts uint8 to float in [0, 1].
        labels: int64 (N,).
        mixing: mixing settings; None returns the batch unchanged.
        epoch: time in epochs since the start of the run.
    """
    if mixing is None:
        return Mixed(images, labels)
    images = _to_float(images)
    share = mixing.share_at(epoch)
    if share < 1 and torch.rand(()) >= share:
        return Mixed(images, labels)
    from torchvision.transforms import v2

    transforms = {"mixup": (v2.MixUp,), "cutmix": (v2.CutMix,), "either": (v2.MixUp, v2.CutMix)}
    kinds = transforms[mixing.kind]
    chosen = kinds[int(torch.randint(len(kinds), ())) if len(kinds) > 1 else 0]
    n = len(images)
    # Each image is its own class here, so the number of classes need not be known yet.
    transform = chosen(alpha=mixing.alpha, num_classes=n)
    mixed, weights = transform(images, torch.arange(n, device=images.device))
    return Mixed(_limit(mixed, images), labels, weights)


def resize(images: Tensor, side: int | None) -> Tensor:
    """Resize square images bilinearly.

    Args:
        images: uint8 or float (N,C,S,S); resizing converts uint8 to float in [0, 1].
        side: new height and width in pixels; None or S returns the images unchanged.

    Raises:
        InvalidValueError: the batch is not one of square images.
    """
    if side is None:
        return images
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        shape = tuple(images.shape)
        raise InvalidValueError(f"images have shape {shape}: image_sizes needs (N, C, S, S)")
    if images.shape[3] == side:
        return images
    images = _to_float(images)
    return _limit(nn.functional.interpolate(images, size=side, mode="bilinear"), images)


def _to_float(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _limit(changed: Tensor, images: Tensor) -> Tensor:
    """Keep the values in the range of the original images, which rounding may leave."""
    low, high = torch.aminmax(images)
    return changed.clamp_(low, high)


def training_loss(
    logits: Tensor,
    batch: Mixed,
    recipe: Recipe,
    *,
    teacher_logits: Tensor | None = None,
    custom: Loss | None = None,
) -> Tensor:
    """Return the mean loss of a batch in nats, for logits (N,K).

    Args:
        logits: logits of the images.
        batch: the images and their labels.
        recipe: label smoothing and distillation.
        teacher_logits: logits of the teacher, for distillation.
        custom: replaces the cross-entropy.

    Raises:
        InvalidValueError: the custom loss is not a scalar, or the teacher has another number of
            classes.
    """
    targets = batch.targets(logits)
    if custom is None:
        loss = nn.functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    else:
        loss = validate("loss(logits, targets)", custom(logits, targets), InstanceOf[Tensor])
        if loss.ndim:
            shape = tuple(loss.shape)
            raise InvalidValueError(f"loss returned shape {shape}: expected a scalar, the mean")
    if recipe.distillation is None or teacher_logits is None:
        return loss
    if teacher_logits.shape != logits.shape:
        n, expected = teacher_logits.shape[1], logits.shape[1]
        raise InvalidValueError(f"teacher has {n} classes: expected {expected}, like the model")
    share = recipe.distillation.share
    distance = _distillation_loss(logits, teacher_logits, recipe.distillation.temperature)
    return (1 - share) * loss + share * distance


def _distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T² times the KL divergence from the softened teacher (arXiv 1503.02531)."""
    student, teacher = (
        nn.functional.log_softmax(each.float() / temperature, dim=1)
        for each in (logits, teacher_logits)
    )
    divergence = nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
