"""Layers that are computed from training images before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import BatchLoader

__all__ = ["FIRST_IMAGES", "show_images"]

FIRST_IMAGES = 5000


@runtime_checkable
class FromImages(Protocol):
    """A model with such layers; cifarzoo's `ImageClassifier` is one if its network is."""

    @property
    def needs_images(self) -> bool:
        """Whether they are still to be computed."""
        ...

    def initialize_from(self, images: Tensor) -> None:
        """Compute them from images (N,3,H,W)."""
        ...


def show_images(model: nn.Module, loader: BatchLoader, device: torch.device) -> None:
    """Give a model that asks for them the first images of a loader, about `FIRST_IMAGES`."""
    if isinstance(model, FromImages) and model.needs_images:
        model.initialize_from(torch.cat(list(_first(loader))).to(device))


def _first(loader: BatchLoader) -> Iterator[Tensor]:
    count = 0
    for images, _ in loader:
        yield images
        count += len(images)
        if count >= FIRST_IMAGES:
            return
