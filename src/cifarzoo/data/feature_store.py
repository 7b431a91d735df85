"""A frozen network, and the memory that keeps what it makes of images."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifarzoo.errors import RangeError, ShapeError
from cifarzoo.hardware import autocast

__all__ = ["FeatureStore", "FrozenNetwork", "MemoryBudget", "state_fingerprint"]

CPU_BATCH, GPU_BATCH = 32, 250  # through the frozen network; on a CPU larger ones are slower


@dataclass(frozen=True)  # without slots, for what is cached
class FrozenNetwork:
    """A network that is not trained, and how it is run.

    Attributes:
        module: maps images to features; in evaluation mode, on the device.
        device: where it runs.
        dtype: what it computes in, float32 or bfloat16.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype

    @property
    def batch_size(self) -> int:
        """Images that go through the network at once."""
        return CPU_BATCH if self.device.type == "cpu" else GPU_BATCH

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the network's state, and its precision: they decide on the features."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{state_fingerprint(self.module)}-{dtype}"

    def __call__(self, images: Tensor) -> Tensor:
        """Give the features of any number of images, in the type that the network gives.

        Raises:
            RangeError: on a CPU: one is NaN or infinite. A GPU would wait for every batch.
            ShapeError: they are not one row of floats per image.
        """
        parts = [self._compute(part) for part in torch.split(images, self.batch_size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _compute(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, non_blocking=True)
        if pixels.dtype == torch.uint8:
            pixels = pixels.to(torch.float32).div_(255)
        # Not inference_mode: what is trained on these features needs them in its backward pass.
        with torch.no_grad(), autocast(self.device, self.dtype):
            features = self.module(pixels)
        return _checked(features, images)


def state_fingerprint(module: nn.Module) -> str:
    """Hash a module's state, whose names, shapes, kinds and values: 16 hex digits."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            values = value.detach().cpu().to_dense().resolve_conj().contiguous().reshape(-1)
            found.update(repr((name, value.dtype, tuple(value.shape))).encode())
            found.update(values.view(torch.uint8).numpy().tobytes())
        else:  # an extra state
            found.update(repr((name, value)).encode())
    return found.hexdigest()[:16]


def _checked(features: object, images: Tensor) -> Tensor:
    if not isinstance(features, Tensor):
        found = f"a {type(features).__name__}"
    elif not features.is_floating_point() or features.shape[:1] != images.shape[:1]:
        found = f"{features.dtype} {tuple(features.shape)}"
    elif features.device.type == "cpu" and not bool(features.isfinite().all()):
        raise RangeError(
            f"the frozen network makes NaN or infinity of images {tuple(images.shape)}; look at "
            "their pixels, and at the network's weights"
        )
    else:
        return features
    raise ShapeError(
        f"the frozen network makes {found} of images {tuple(images.shape)}; needed is one tensor "
        "of floats, a row per image"
    )


@dataclass(slots=True)
class MemoryBudget:
    """What is left of a memory limit.

    Attributes:
        left_bytes: 0 or more.
    """

    left_bytes: int

    def take(self, network: FrozenNetwork, images: Tensor) -> int:
        """Give the number of images whose features fit, and count them off."""
        one = network(images[:1])
        size_bytes = max(1, one.numel() * one.element_size())
        fits = min(len(images), self.left_bytes // size_bytes)
        self.left_bytes -= fits * size_bytes
        return fits


class FeatureStore:
    """The features of one tensor of images, of which the first ones are computed now and kept.

    They are computed in batches that are always the same, so the bits of a kept feature depend
    neither on the order of the epoch nor on where a run was taken up again.

    Args:
        network: what makes the features.
        images: uint8 (N,3,H,W).
        kept: how many images' features are kept, 0 to N.
        show: whether to show a progress bar.
    """

    def __init__(self, network: FrozenNetwork, images: Tensor, kept: int, *, show: bool) -> None:
        self.network = network
        self._images = images
        self._kept = kept
        self._rows = _to_rows(network(images[:1]))[:0]
        if kept:
            self._rows = self._rows.new_empty(kept, *self._rows.shape[1:])
            self._fill(show=show)

    def _fill(self, *, show: bool) -> None:
        from tqdm.auto import tqdm

        size = self.network.batch_size
        with tqdm(
            total=self._kept, desc="frozen layers", unit="image", leave=False, disable=not show
        ) as bar:
            for start in range(0, self._kept, size):
                part = self._images[start : min(start + size, self._kept)]
                self._rows[start : start + size] = _to_rows(self.network(part))
                bar.update(len(part))

    def take(self, indices: Tensor) -> Tensor:
        """Give the features of the images at `indices`, int64 (n,).

        Returns:
            float32 (n,...), channels_last where there are four dimensions.
        """
        if self._kept == len(self._images):
            return _from_rows(self._rows.index_select(0, indices.to(self._rows.device)))
        known = indices < self._kept
        rows = self._rows.new_empty(len(indices), *self._rows.shape[1:])
        kept, rest = (mask.nonzero().squeeze(1) for mask in (known, ~known))
        if len(kept):
            where = indices[kept].to(rows.device)
            rows[kept.to(rows.device)] = self._rows.index_select(0, where)
        if len(rest):
            rows[rest.to(rows.device)] = _to_rows(self.network(self._pixels(indices[rest])))
        return _from_rows(rows)

    def _pixels(self, indices: Tensor) -> Tensor:
        # Gathered as (N,H,W,3), where each image is one piece of memory.
        return self._images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)


def _to_rows(features: Tensor) -> Tensor:
    """Make each image's features one piece of memory: (N,C,H,W) becomes (N,H,W,C)."""
    return features.permute(0, 2, 3, 1) if features.ndim == 4 else features


def _from_rows(rows: Tensor) -> Tensor:
    return (rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows).float()
