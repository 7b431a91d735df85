"""Layers, and ways to join and to begin them, that families share.

Source: `Whitening`, `passing_conv` and `unscaled_norm` are of networks that are trained in little
time: arXiv 2404.00498, section 3, and github.com/tysam-code/hlb-CIFAR10 before it. `PreActBlock` is
arXiv 1603.05027, figure 4e, `he_normal` arXiv 1502.01852, section 2.2.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cifarzoo.spec import require_whole

__all__ = [
    "PreActBlock",
    "Whitening",
    "conv_norm",
    "he_normal",
    "passing_conv",
    "pooled_head",
    "stage",
    "unscaled_norm",
]

EPSILON = 5e-4  # added to the patches' variances: none is blown up without limit


class Whitening(nn.Conv2d):
    """A convolution whose outputs are of one variance and not correlated, on images it is given.

    Its filters are the eigenvectors of the patches' covariance, each once with either sign. They
    are not trained, but the bias is, from zero. Before `initialize_from` they are random.

    Args:
        patch: side of the patches in pixels; there are 2 * 3 * patch**2 filters, no padding.
        gain: standard deviation of the outputs.
    """

    computed: Tensor

    def __init__(self, patch: int = 2, *, gain: float = 1.0) -> None:
        super().__init__(3, 2 * 3 * patch**2, patch)
        self.gain = gain
        self.weight.requires_grad = False
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.register_buffer("computed", torch.tensor(False))

    @property
    def needs_images(self) -> bool:
        """Whether the filters are still to be computed."""
        return not self.computed

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Compute the filters from images (N,3,H,W), normalised."""
        side = self.kernel_size[0]
        patches = nn.functional.unfold(images.float().contiguous(), side)
        flat = patches.transpose(1, 2).flatten(0, 1)  # (patches, pixels of one)
        covariance = (flat.T @ flat / len(flat)).cpu()  # small, and not every device has `eigh`
        variances, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / (variances + EPSILON).sqrt()).T.reshape(-1, 3, side, side)
        self.weight.copy_(self.gain * torch.cat([filters, -filters]))
        self.computed.fill_(True)


def passing_conv(channels_in: int, channels: int) -> nn.Conv2d:
    """Build a 3×3 convolution whose first filters pass their input on; the rest is random.

    It has no bias, and its weights have the norm sqrt(channels).
    """
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:channels_in])
        conv.weight *= channels**0.5 / conv.weight.norm()
    return conv


def unscaled_norm(channels: int, gain: float = 1.0) -> nn.BatchNorm2d:
    """Build a batch norm whose scale is `gain` and not trained; it forgets quickly."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    nn.init.constant_(norm.weight, gain)
    norm.weight.requires_grad = False
    return norm


def conv_norm(
    channels_in: int,
    channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Build a convolution without bias, a batch norm and, where there is one, an activation.

    An odd kernel at stride 1 keeps the size of the maps.
    """
    conv = nn.Conv2d(
        channels_in,
        channels,
        kernel_size,
        stride=stride,
        padding=(kernel_size - 1) // 2,
        groups=groups,
        bias=False,
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels))
    if act is not None:
        layers["act"] = act
    return nn.Sequential(layers)


def stage(
    block: Callable[[int, int, int], nn.Module],
    channels_in: int,
    channels: int,
    *,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    """Stack blocks: the first one changes the channels and the size, the others keep both.

    Args:
        block: takes channels that come in, channels that go out, and stride.
        channels_in: of the first block.
        channels: of all the blocks' results.
        blocks: how many there are, 1 or more.
        stride: of the first block.
    """
    first = block(channels_in, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))


def pooled_head(channels: int, num_classes: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Build what makes logits (N,num_classes) of the means of maps (N,channels,H,W).

    Raises:
        OptionError: num_classes is under 1.
    """
    require_whole("num_classes", num_classes, 1, math.inf, "1 or more")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()
    )
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["linear"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def he_normal(network: nn.Module) -> None:
    """Draw the convolutions' weights so that gradients keep their variance; biases are zero.

    What a weight's gradient is summed over is counted per group, so depthwise filters are drawn
    from a normal distribution as wide as their 9 or 25 weights ask for.
    """
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        fan_out = conv.out_channels // conv.groups * math.prod(conv.kernel_size)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, each after its batch norm and ReLU, added to the block's input.

    Where the shape changes, the shortcut is a 1×1 convolution of the normalised input.

    Args:
        channels_in: of the maps that come in.
        channels: of the maps that go out.
        stride: of the first convolution.
        dropout: probability between the convolutions, in [0, 1).
    """

    def __init__(
        self, channels_in: int, channels: int, stride: int = 1, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Give maps (N,channels,H/stride,W/stride) for maps (N,channels_in,H,W)."""
        ready = self.act(self.norm1(maps))
        beside = maps if self.shortcut is None else self.shortcut(ready)
        inner = self.act(self.norm2(self.conv1(ready)))
        result: Tensor = self.conv2(self.dropout(inner)) + beside
        return result
