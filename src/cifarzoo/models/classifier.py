"""A network together with the preprocessing that its weights were trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cifarzoo.errors import OptionError, RangeError, ShapeError
from cifarzoo.spec import require_whole, shape_hint

__all__ = ["ImageClassifier", "Preprocess"]

CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Preprocess(nn.Module):
    """Scale, resize and normalise: what stands between stored pixels and a network.

    Args:
        mean: per channel, in units of the [0, 1] range.
        std: per channel, likewise; positive.
        size: side in pixels that images are resized to (bilinear, antialiased); None keeps theirs.

    Raises:
        OptionError: mean and std differ in length, a std is not positive, a number is not finite,
            or size is under 1 pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
        *,
        size: int | None = None,
    ) -> None:
        super().__init__()
        finite = all(math.isfinite(value) for value in (*mean, *std))
        if len(mean) != len(std) or not len(mean) or not finite or min(std) <= 0:
            raise OptionError(
                f"mean {tuple(mean)} and std {tuple(std)}: needed are one of each per channel, "
                "finite, std positive"
            )
        if size is not None:
            require_whole("size", size, 1, math.inf, "1 pixel or more, or None")
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Turn images into what the network takes.

        Args:
            images: uint8 (N,C,H,W) in 0..255, or float (N,C,H,W) in [0, 1].

        Returns:
            float (N,C,size,size), or (N,C,H,W) where size is None; normalised per channel.

        Raises:
            ShapeError: not four dimensions, or another number of channels.
            RangeError: not uint8 or float, values outside [0, 1], or NaN.
        """
        check_images(images, channels=self.mean.shape[1])
        scaled = images.to(self.mean.dtype)  # numpy's images are often float64
        if images.dtype == torch.uint8:
            scaled = scaled / 255
        if self.size is not None and scaled.shape[-2:] != (self.size, self.size):
            scaled = nn.functional.interpolate(
                scaled, size=(self.size, self.size), mode="bilinear", antialias=True
            )
        return (scaled - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the constants where torch prints a module."""
        mean, std = (
            tuple(round(v, 4) for v in t.flatten().tolist()) for t in (self.mean, self.std)
        )
        return f"mean={mean}, std={std}, size={self.size}"


def check_images(images: Tensor, *, channels: int = 3) -> None:
    """Refuse images of a wrong shape, type or range.

    The range is looked at on the CPU only, where it costs microseconds; on an accelerator it
    would make every step wait. It is not looked at while a graph is captured.

    Raises:
        ShapeError: not (N, channels, H, W).
        RangeError: neither uint8 nor float, outside [0, 1], or NaN.
    """
    if not isinstance(images, Tensor):
        raise ShapeError(
            f"images is a {type(images).__name__}; needed is a torch.Tensor (N, {channels}, H, W): "
            "torch.from_numpy(array), or torch.stack(list)"
        )
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != channels:
        hint = shape_hint(shape, channels)
        raise ShapeError(f"images have shape {shape}; needed is (N, {channels}, H, W){hint}")
    if images.layout != torch.strided:
        raise RangeError(f"images are {images.layout}; needed are dense ones: images.to_dense()")
    if images.dtype == torch.uint8:
        return
    if images.dtype not in FLOATS:
        raise RangeError(f"images are {images.dtype}; needed is uint8, or float in [0, 1]")
    if images.device.type == "cpu" and images.numel() and not torch.compiler.is_compiling():
        low, high = (v.item() for v in torch.aminmax(images.detach()))
        if not (low >= 0 and high <= 1):
            hint = "; divide by 255, or pass uint8" if high > 1 else ""
            if low < 0:
                hint = "; the model normalises by itself, pass plain pixels"
            raise RangeError(f"float images lie in [{low:.4g}, {high:.4g}]; needed is [0, 1]{hint}")


class ImageClassifier(nn.Module):
    """Preprocessing and network as one module: images in, logits out.

    Args:
        preprocess: turns pixels into what the network takes.
        network: maps (N,3,H,W) float to logits (N,num_classes).
        image_size: side in pixels of the only images that the network takes; None takes any.
        min_image_size: least height and width in pixels; None sets no limit.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        *,
        image_size: int | None = None,
        min_image_size: int | None = None,
    ) -> None:
        super().__init__()
        self.min_image_size = min_image_size
        self.preprocess = preprocess
        self.network = network
        self.image_size = image_size

    @property
    def needs_images(self) -> bool:
        """Whether layers of the network are still to be computed from training images."""
        return bool(getattr(self.network, "needs_images", False))

    def initialize_from(self, images: Tensor) -> None:
        """Compute those layers; `fit` calls it before the first step.

        The network does it, in a method of the same name that takes preprocessed images.

        Args:
            images: some thousand training images, as `forward` takes them.
        """
        initialize = getattr(self.network, "initialize_from", None)
        if initialize is not None:
            initialize(self.preprocess(images))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: uint8 (N,3,32,32), or float (N,3,32,32) in [0, 1].

        Returns:
            logits, float (N,num_classes).

        Raises:
            ShapeError: the images' shape does not fit.
            RangeError: the pixels are not in the documented range.
        """
        pixels = self.preprocess(images)
        if self.image_size is not None and pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ShapeError(
                f"images have shape {tuple(images.shape)}; this network takes (N, "
                f"{images.shape[1]}, {self.image_size}, {self.image_size}); resize them first"
            )
        if self.min_image_size is not None and min(pixels.shape[-2:]) < self.min_image_size:
            raise ShapeError(
                f"images have shape {tuple(images.shape)}; this network takes height and width "
                f"from {self.min_image_size} up; resize them first"
            )
        logits: Tensor = self.network(pixels)
        return logits
