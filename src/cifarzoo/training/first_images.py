"""Layers that are computed from training images before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from cifarzoo.data.loaders import BatchLoader, HasEpochs
from cifarzoo.errors import OptionError
from cifarzoo.evaluation.score import batches_to, evaluation_mode

__all__ = ["FIRST_IMAGES", "show_images"]

FIRST_IMAGES = 5000


class FromImages(Protocol):
    """A model with such layers; cifarzoo's `ImageClassifier` is one if its network is.

    What is computed belongs in its state dict, in tensors whose shapes do not change, and so does
    whether it was computed.
    """

    @property
    def needs_images(self) -> bool:
        """Whether they are still to be computed."""
        ...

    def initialize_from(self, images: Tensor) -> None:
        """Compute them from images (N,3,H,W)."""
        ...


def show_images(model: nn.Module, loader: BatchLoader, device: torch.device) -> None:
    """Give a model that asks for them the first images of the first epoch, about `FIRST_IMAGES`.

    Args:
        model: is in evaluation mode while it computes; no gradients are kept.
        loader: where the images come from.
        device: where the model is.

    Raises:
        EmptyLoaderError: the loader gave nothing.
        OptionError: a part of the model asks for images, but the model does not pass them on; or
            the loader gave something else than pairs of tensors.
    """
    if _asks(model):
        if isinstance(loader, HasEpochs):
            loader.set_epoch(0)
        with evaluation_mode(model):
            cast("FromImages", model).initialize_from(torch.cat(list(_first(loader, device))))
    for name, part in model.named_modules():
        if _asks(part):
            raise OptionError(
                f"{name or 'the model'} ({type(part).__name__}) is still to be computed from "
                "images: the module around it needs `needs_images` and `initialize_from` that "
                "pass them on, as cifarzoo.ImageClassifier has them; or call it yourself before "
                "training"
            )


def _asks(module: nn.Module) -> bool:
    """Tell whether layers are still to be computed; a compiled model passes the question on."""
    return bool(getattr(module, "needs_images", False)) and hasattr(module, "initialize_from")


def _first(loader: BatchLoader, device: torch.device) -> Iterator[Tensor]:
    count = 0
    for images, _ in batches_to(loader, device):
        yield images
        count += len(images)
        if count >= FIRST_IMAGES:
            return
