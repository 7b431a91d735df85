from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cifarzoo.models.layers import PreActBlock, Whitening, dirac_conv, he_normal


@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_whitened_patches_are_uncorrelated_with_equal_variance(gain: float) -> None:
    noise = 20 * torch.randn(64, 3, 34, 34)  # its variance is large compared to the damping
    images = nn.functional.avg_pool2d(noise, 3, stride=1)  # neighbouring pixels are correlated
    layer = Whitening(gain=gain)
    layer.initialize_from(images)
    outputs = layer(images).detach().transpose(0, 1).flatten(1)
    moments = outputs @ outputs.T / outputs.shape[1] / gain**2
    torch.testing.assert_close(moments[:12, :12], torch.eye(12), rtol=0, atol=1e-3)
    assert torch.equal(layer.weight[:12], -layer.weight[12:])
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (-1.99, -1.98, -1.71), (2.06, 2.13, 2.12)])
def test_filters_of_images_without_variance_are_finite(colour: tuple[float, ...]) -> None:
    layer = Whitening(gain=1.0)
    layer.initialize_from(torch.tensor(colour).view(1, 3, 1, 1).expand(5000, 3, 17, 17))
    assert layer.lacks_variance
    lengths = layer.weight.flatten(1).norm(dim=1)
    assert bool((lengths < 1.001 / math.sqrt(layer.damping)).all())


def test_the_state_dict_records_whether_the_filters_were_computed() -> None:
    first, second, third = (Whitening(gain=1.0) for _ in range(3))
    first.initialize_from(torch.rand(4, 3, 8, 8))
    second.load_state_dict(first.state_dict())
    assert [layer.needs_images for layer in (first, second, third)] == [False, False, True]


@pytest.mark.parametrize(("channels_in", "channels"), [(4, 9), (9, 4), (6, 6)])
def test_dirac_filters_pass_their_input_through(channels_in: int, channels: int) -> None:
    conv = dirac_conv(channels_in, channels).requires_grad_(False)
    maps, passed = torch.rand(2, channels_in, 5, 5), min(channels_in, channels)
    scale = float(conv.weight[0, 0, 1, 1])
    torch.testing.assert_close(conv(maps)[:, :passed], scale * maps[:, :passed])
    assert float(conv.weight.norm()) == pytest.approx(math.sqrt(channels), rel=1e-5)
    assert bool((conv.weight[passed:] != 0).all())


def test_he_initialisation_is_kaimings_per_group() -> None:
    dense, reference = nn.Conv2d(8, 200, 3), nn.Conv2d(8, 200, 3)
    depthwise = nn.Conv2d(2000, 2000, 3, groups=2000)
    torch.manual_seed(0)
    he_normal(nn.Sequential(dense, depthwise))
    torch.manual_seed(0)
    nn.init.kaiming_normal_(reference.weight, mode="fan_out", nonlinearity="relu")
    torch.testing.assert_close(dense.weight, reference.weight)
    assert dense.bias is not None
    assert not dense.bias.any()
    assert float(depthwise.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)


def test_pre_activation_shortcut_is_the_identity() -> None:
    block, maps = PreActBlock(4, 4, 1), torch.randn(2, 4, 5, 5)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(maps), maps)
