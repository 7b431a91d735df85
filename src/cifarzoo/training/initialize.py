"""Initialization of layers from training images, before the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cifarzoo.data.loader import BatchLoader, start_epoch
from cifarzoo.errors import InvalidValueError
from cifarzoo.evaluation.classifier import evaluation_mode
from cifarzoo.evaluation.predict import batches_to

__all__ = ["initialize_from_images"]

_MIN_IMAGES = 5000


def initialize_from_images(
    model: nn.Module, loader: BatchLoader, device: torch.device, seed: int
) -> None:
    """Call `model.initialize_from(images)` if `model.needs_images`.

    Args:
        model: the model, in evaluation mode during the call. `ImageClassifier` forwards the call to
            its network.
        loader: training loader; the images are the first of its first epoch, at least 5,000 if it
            has that many.
        device: device of the model.
        seed: seed of the run.

    Raises:
        InvalidValueError: a submodule needs images, but the model does not forward them.
    """
    if _needs_images(model):
        start_epoch(loader, 0, seed)
        images: list[Tensor] = []
        for batch, _ in batches_to(loader, device):
            images.append(batch)
            if sum(map(len, images)) >= _MIN_IMAGES:
                break
        with evaluation_mode(model):
            initialized: Any = model
            initialized.initialize_from(torch.cat(images))
    for name, module in model.named_modules():
        if _needs_images(module):
            raise InvalidValueError(
                f"{name} has to be initialized from images: expected a model that forwards "
                "needs_images and initialize_from, as ImageClassifier does"
            )


def _needs_images(module: nn.Module) -> bool:
    return bool(getattr(module, "needs_images", False)) and hasattr(module, "initialize_from")
