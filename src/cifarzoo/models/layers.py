"""Layers of networks that are trained in little time.

Source: arXiv 2404.00498, section 3, and github.com/tysam-code/hlb-CIFAR10 before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Whitening", "passing_conv", "unscaled_norm"]

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
