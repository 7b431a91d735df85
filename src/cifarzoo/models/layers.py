"""Layers, blocks and initialisation that several families share."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.validation import PositiveInt, validate

__all__ = [
    "PreActBlock",
    "Whitening",
    "conv_norm",
    "dirac_conv",
    "he_normal",
    "pooled_head",
    "sequential",
    "stage",
]


class Whitening(nn.Conv2d):
    """Convolution that whitens 2×2 patches to the standard deviation `gain`.

    The 24 filters are the eigenvectors of the patches' covariance, each with both signs. They are
    random until `initialize_from` is called, and frozen; the bias is trained and starts at zero.

    Source: arXiv 2404.00498, section 3.
    """

    damping = 5e-4  # otherwise rare patterns would be amplified
    computed: Tensor

    def __init__(self, *, gain: float) -> None:
        super().__init__(3, 24, 2)
        self.gain = gain
        self.weight.requires_grad = False
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.register_buffer("computed", torch.tensor(False))

    @property
    def needs_images(self) -> bool:
        """Whether the filters must still be computed."""
        return not self.computed

    @property
    def lacks_variance(self) -> bool:
        """Whether patches did not vary in some direction, as those of images of one colour."""
        largest = self.weight.square().sum(dim=(1, 2, 3)).max()
        return bool(self.computed & (largest > self.gain**2 / (1.1 * self.damping)))

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Compute the filters from normalised images (N,3,H,W)."""
        patches = nn.functional.unfold(images.float().contiguous(), 2)
        flat = patches.transpose(1, 2).flatten(0, 1)  # (number of patches, 12)
        covariance = (flat.T @ flat / len(flat)).cpu()  # `eigh` is missing on some devices
        variances, vectors = torch.linalg.eigh(covariance)
        damped = variances.clamp(min=0) + self.damping  # rounding can make them negative
        filters = (vectors / damped.sqrt()).T.reshape(12, 3, 2, 2)
        self.weight.copy_(self.gain * torch.cat([filters, -filters]))
        self.computed.fill_(True)


class PreActBlock(nn.Module):
    """Pre-activation residual block: norm, ReLU and 3×3 convolution, twice.

    Where the shape changes, the shortcut is a 1×1 convolution.

    Source: arXiv 1603.05027, figure 4e.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        activated = self.act(self.norm1(x))
        identity = x if self.shortcut is None else self.shortcut(activated)
        residual: Tensor = self.conv2(self.act(self.norm2(self.conv1(activated))))
        return residual + identity


def sequential(**layers: nn.Module) -> nn.Sequential:
    """Return an `nn.Sequential` with named layers."""
    return nn.Sequential(OrderedDict(layers))


def conv_norm(
    channels_in: int,
    channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Return a convolution without bias, a batch norm and optionally an activation.

    At stride 1, an odd kernel keeps the height and width.
    """
    padding = (kernel_size - 1) // 2
    conv = nn.Conv2d(channels_in, channels, kernel_size, stride, padding, groups=groups, bias=False)
    layers: dict[str, nn.Module] = {"conv": conv, "norm": nn.BatchNorm2d(channels)}
    return sequential(**layers) if act is None else sequential(**layers, act=act)


def dirac_conv(channels_in: int, channels: int) -> nn.Conv2d:
    """Return a 3×3 convolution whose first filters pass their input channels through.

    The other filters are random; the norm is sqrt(channels). Source: arXiv 2404.00498, section 3.
    """
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:channels_in])
        conv.weight *= channels**0.5 / conv.weight.norm()
    return conv


def stage(
    block: Callable[[int, int, int], nn.Module],
    channels_in: int,
    channels: int,
    *,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    """Return a sequence of blocks; the first one changes channels and resolution.

    `block` takes input channels, output channels and stride.
    """
    first = block(channels_in, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))


def pooled_head(channels: int, num_classes: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Return global average pooling, dropout (if any) and a linear layer."""
    validate("num_classes", num_classes, PositiveInt)
    layers: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return sequential(**layers, linear=nn.Linear(channels, num_classes))


def he_normal(network: nn.Sequential) -> nn.Sequential:
    """Initialise the convolutions of a network from their fan-out, and return it.

    Unlike in `nn.init.kaiming_normal_`, the fan-out is per group: 9 for a depthwise 3×3 filter.
    Biases become zero. Source: arXiv 1502.01852, section 2.2.
    """
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        fan_out = conv.out_channels // conv.groups * math.prod(conv.kernel_size)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return network
