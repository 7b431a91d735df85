"""What a training step minimises: labels, mixed labels, a teacher's answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.evaluation.score import logits_of
from cifarzoo.spec import Distillation, Mixing, Recipe

__all__ = ["Mixed", "answers", "mix", "training_loss"]


@dataclass(frozen=True, slots=True)
class Mixed:
    """A batch, and what its images are made of.

    Attributes:
        images: float (N,3,H,W).
        labels: int64 (N,), of the images before they were mixed.
        parts: float (N,N), the share of each image before in each image after; None where nothing
            was mixed.
    """

    images: Tensor
    labels: Tensor
    parts: Tensor | None = None

    def targets(self, logits: Tensor) -> Tensor:
        """Give what cross-entropy takes for logits (N,K): labels (N,), or shares (N,K)."""
        if self.parts is None:
            return self.labels.long()
        classes = nn.functional.one_hot(self.labels.long(), logits.shape[1])
        return self.parts.to(logits.dtype) @ classes.to(logits.dtype)

    def main_labels(self) -> Tensor:
        """Give the label of each image's largest part, (N,)."""
        return self.labels if self.parts is None else self.labels[self.parts.argmax(1)]


def mix(images: Tensor, labels: Tensor, mixing: Mixing | None) -> Mixed:
    """Mix the images of a batch, with random numbers of torch's global generator.

    Args:
        images: uint8 or float (N,3,H,W); with a mixing, bytes become float in [0, 1].
        labels: int64 (N,).
        mixing: how; None leaves them.

    Raises:
        RangeError: the images are neither bytes nor float.
        ShapeError: they are not (N,C,H,W).

    Source: torchvision's `v2.MixUp` and `v2.CutMix`.
    """
    if mixing is None:
        return Mixed(images, labels)
    if images.ndim != 4 or not images.numel():
        raise ShapeError(f"images have shape {tuple(images.shape)}; mixing needs (N, C, H, W)")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise RangeError(f"images are {images.dtype}; needed is uint8, or float in [0, 1]")
    scaled = images if images.is_floating_point() else images.float() / 255
    if mixing.share < 1 and torch.rand(()) >= mixing.share:
        return Mixed(scaled, labels)
    from torchvision.transforms import v2

    kinds = {"mixup": (v2.MixUp,), "cutmix": (v2.CutMix,), "either": (v2.MixUp, v2.CutMix)}
    builders = kinds[mixing.kind]
    which = int(torch.randint(len(builders), ())) if len(builders) > 1 else 0
    n = len(images)
    # Each image is a class of its own for them, so they need not know how many classes there are.
    transform = builders[which](alpha=mixing.alpha, num_classes=n)
    mixed, parts = transform(scaled, torch.arange(n, device=images.device))
    low, high = torch.aminmax(scaled)  # sums of shares can be off by a last bit
    return Mixed(mixed.clamp_(low, high), labels, parts)


def training_loss(
    logits: Tensor, batch: Mixed, recipe: Recipe, *, taught: Tensor | None = None
) -> Tensor:
    """Give the mean loss of a batch, in nats.

    Args:
        logits: float (N,K).
        batch: what they were computed of.
        recipe: its label smoothing and distillation count.
        taught: the teacher's logits (N,K); None where there is no teacher.

    Raises:
        OptionError: the teacher has another number of classes.
    """
    loss = nn.functional.cross_entropy(
        logits, batch.targets(logits), label_smoothing=recipe.label_smoothing
    )
    if recipe.distillation is None or taught is None:
        return loss
    if taught.shape != logits.shape:
        raise OptionError(
            f"the teacher's logits have shape {tuple(taught.shape)} and the model's "
            f"{tuple(logits.shape)}; build both with the same num_classes"
        )
    share = recipe.distillation.share
    return (1 - share) * loss + share * _distance(logits, taught, recipe.distillation)


def _distance(logits: Tensor, taught: Tensor, distillation: Distillation) -> Tensor:
    """Give the divergence from the teacher's softened answers, scaled as the paper has it."""
    temperature = distillation.temperature
    return temperature**2 * nn.functional.kl_div(
        nn.functional.log_softmax(logits.float() / temperature, dim=1),
        nn.functional.log_softmax(taught.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


@torch.no_grad()
def answers(teacher: nn.Module | None, images: Tensor) -> Tensor | None:
    """Give a teacher's logits (N,K) of images (N,3,H,W); None without a teacher."""
    return None if teacher is None else logits_of(teacher, images)
