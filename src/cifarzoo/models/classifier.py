"""`ImageClassifier`: a network with the preprocessing that it was trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn
from typing_extensions import override

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.validation import ROUNDING, PositiveInt, validate

if TYPE_CHECKING:
    from cifarzoo.record import RunRecord

__all__ = ["CIFAR10_MEAN", "CIFAR10_STD", "ImageClassifier", "Preprocess", "check_images"]

CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)


class Preprocess(nn.Module):
    """Convert images to float, resize them and normalise each channel.

    Float images are clamped to [0, 1], which rounding errors may leave: those of a blur, of an
    interpolation or of lower precision.

    Args:
        mean: one per channel, for pixels in [0, 1].
        std: one per channel, positive, for pixels in [0, 1].
        size: side in pixels to resize images to (bilinear, antialiased); None does not resize.

    Raises:
        InvalidValueError: mean, std or size is invalid.
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
        finite = all(map(math.isfinite, (*mean, *std)))
        if not len(mean) == len(std) > 0 or not finite or min(std) <= 0:
            expected = "a finite mean and a positive std for each channel"
            raise InvalidValueError(f"mean is {mean} and std is {std}: expected {expected}")
        self.size = None if size is None else validate("size", size, PositiveInt)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return float (N,C,size,size) for images (N,C,H,W) that pass `check_images`."""
        return _to_input(images, self.mean, self.std, self.size)

    @override
    def extra_repr(self) -> str:
        mean, std = ([round(v, 4) for v in t.flatten().tolist()] for t in (self.mean, self.std))
        return f"mean={mean}, std={std}, size={self.size}"


# A single node for `torch.fx`, which cannot trace what depends on the dtype or shape of images.
@fx.wrap
def _to_input(images: Tensor, mean: Tensor, std: Tensor, size: int | None) -> Tensor:
    may_exceed = check_images(images, channels=mean.shape[1])
    pixels = images.to(mean.dtype)
    if images.dtype == torch.uint8:
        pixels = pixels / 255
    if may_exceed:  # a sum keeps the gradients at 0 and 1, which `clamp` alone does not
        pixels = pixels + (pixels.clamp(0, 1) - pixels).detach()
    if size is not None and pixels.shape[-2:] != (size, size):
        side = (size, size)
        pixels = nn.functional.interpolate(pixels, size=side, mode="bilinear", antialias=True)
    return (pixels - mean) / std


@fx.wrap
def _check_size(pixels: Tensor, side: int | None, least: int) -> None:
    if _is_jit_tracing():
        return
    height, width = pixels.shape[-2:]
    if (side is not None and not height == width == side) or height < least or width < least:
        expected = f"at least {least}×{least}" if side is None else f"{side}×{side}"
        raise InvalidValueError(f"images are {height}×{width}: expected {expected} pixels")


def check_images(images: Tensor, *, channels: int = 3) -> bool:
    """Check the shape, dtype and range of images.

    Floats may exceed [0, 1] by 1/64, as rounding in bfloat16 makes them. The range is checked on
    the CPU only, where that takes microseconds; an accelerator would have to synchronise at every
    step. It is not checked while a graph is captured; `torch.jit.trace` checks nothing.

    Returns:
        Whether floats may exceed [0, 1]: they do, or their range was not checked.

    Raises:
        InvalidTypeError: images are not a tensor.
        InvalidValueError: the shape is not (N,channels,H,W), the dtype is neither uint8 nor
            floating-point, or a float is NaN or outside [0, 1].
    """
    if not isinstance(images, Tensor):
        raise InvalidTypeError(
            f"images are a {type(images).__name__}: expected a tensor (N, {channels}, H, W)"
        )
    if _is_jit_tracing():
        return images.is_floating_point()
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != channels:
        hint = _shape_hint(shape, channels)
        raise InvalidValueError(f"images have shape {shape}: expected (N, {channels}, H, W){hint}")
    if images.dtype == torch.uint8:
        return False
    if not images.is_floating_point():
        raise InvalidValueError(f"images are {images.dtype}: expected uint8, or float in [0, 1]")
    return images.device.type != "cpu" or (images.numel() > 0 and _exceeds(images))


def _is_jit_tracing() -> bool:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing


def _exceeds(images: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return True
    try:
        low, high = (float(value) for value in torch.aminmax(images.detach()))
    except RuntimeError:  # no values within `vmap`, `make_fx` and the like
        return True
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidValueError("images contain NaN or infinity: expected float in [0, 1]")
    if low < -ROUNDING or high > 1 + ROUNDING:
        hint = "clip a small excess, as of bicubic resizing: images.clamp(0, 1)"
        if low < -0.5:
            hint = "pass pixels that are not normalised, the model normalises them"
        elif high > 1.5:
            hint = "divide by 255, or pass uint8"
        raise InvalidValueError(
            f"images are in [{low:.4g}, {high:.4g}]: expected float in [0, 1]; {hint}"
        )
    return low < 0 or high > 1


def _shape_hint(shape: tuple[int, ...], channels: int) -> str:
    if len(shape) == 3 and shape[0] == channels:
        return "; add the batch dimension: images[None]"
    if len(shape) == 4 and shape[-1] == channels:
        return "; move the channels: images.permute(0, 3, 1, 2)"
    if len(shape) == 4 and shape[1] in (1, 4):
        return "; convert greyscale or RGBA images to RGB (PIL: image.convert('RGB'))"
    return ""


class ImageClassifier(nn.Module):
    """Preprocessing and network in one module, from images to logits.

    Args:
        preprocess: applied to the images.
        network: maps preprocessed images (N,3,H,W) to logits (N,num_classes).
        image_size: the only height and width in pixels that the network accepts; None for any.
        min_image_size: smallest height and width in pixels that the network accepts.

    Attributes:
        name: name of the model's card, set by `build_model` and `train`; None for your own.
        class_names: names of the classes, in the order of the logits; None if unknown.
            `build_model` and `fit` set them.
    """

    name: str | None = None
    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        *,
        image_size: int | None = None,
        min_image_size: int = 1,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.network = network
        self.image_size = image_size
        self.min_image_size = min_image_size

    @property
    def needs_images(self) -> bool:
        """Whether the network must still be initialised from training images."""
        return bool(getattr(self.network, "needs_images", False))

    def initialize_from(self, images: Tensor) -> None:
        """Pass preprocessed training images to the network's method of the same name.

        `fit` calls this before the first step, with a few thousand images as for `forward`.
        """
        if initialize := getattr(self.network, "initialize_from", None):
            initialize(self.preprocess(images))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float (N,num_classes), of images (N,3,H,W), uint8 or in [0, 1].

        Raises:
            InvalidTypeError: images are not a tensor.
            InvalidValueError: their shape, dtype or range is wrong.
        """
        pixels = self.preprocess(images)
        _check_size(pixels, self.image_size, self.min_image_size)
        logits: Tensor = self.network(pixels)
        return logits

    def save_pretrained(self, save_directory: str | Path, *, run: RunRecord | None = None) -> None:
        """Write config.json, model.safetensors and README.md (a model card) into a folder.

        The card reports the scores, data and recipe of a run, and how the model should not be used.
        An existing README.md is kept.

        Args:
            save_directory: created if missing.
            run: the run that trained the model, as `train` returns it; None for that of the
                weights in the package, if the model's are the same.

        Raises:
            InvalidValueError: the model has no name, there is no such name in the zoo, or the run
                trained a model of another name.
            MissingExtraError: huggingface_hub is not installed.
            WeightsError: the weights cannot be written, or the network is no longer the card's.
        """
        from cifarzoo import hub

        hub.save(self, save_directory, run)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> ImageClassifier:
        """Build the model that `save_pretrained` or `push_to_hub` wrote.

        Args:
            name_or_path: a folder, or a repository on the Hugging Face Hub, "user/name". No code in
                it is executed.
            revision: branch, tag or commit of the repository; None for its main branch.
            token: access token; None for the one that is stored on this machine.
            cache_dir: folder for downloads; None for huggingface_hub's.
            force_download: whether to download files that are in the cache.
            local_files_only: whether to use the cache only.

        Returns:
            The model on the CPU in evaluation mode.

        Raises:
            DownloadError: the repository cannot be read.
            InvalidValueError: the model is not in the zoo.
            MissingExtraError: huggingface_hub is not installed.
            WeightsError: the files are missing or damaged, or do not fit the model.
        """
        from cifarzoo import hub

        return hub.load(
            name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        run: RunRecord | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str = "Upload a model of cifarzoo",
    ) -> str:
        """Upload what `save_pretrained` writes to a repository on the Hugging Face Hub.

        Args:
            repo_id: the repository, "user/name"; created if missing.
            run: as in `save_pretrained`.
            private: whether a new repository is private; None for the owner's default.
            token: access token with write permission; None for the one stored on this machine.
            branch: branch to commit to; None for the main branch.
            commit_message: first line of the commit's message.

        Returns:
            The address of the commit; of the branch, with old versions of huggingface_hub.

        Raises:
            CifarZooError: the errors of `save_pretrained`.
            HfHubHTTPError: an error of huggingface_hub; the server refused the request.
        """
        from cifarzoo import hub

        return hub.push(
            self,
            repo_id,
            run,
            private=private,
            token=token,
            branch=branch,
            commit_message=commit_message,
        )
