from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cifarzoo.hardware import seeded
from cifarzoo.models.layers import Whitening, passing_conv, unscaled_norm


def _noise(n: int = 64, side: int = 32) -> Tensor:
    """Images whose neighbouring pixels are alike, as a photograph's are."""
    with seeded(0):
        rough = torch.rand(n, 3, side + 2, side + 2)
    return nn.functional.avg_pool2d(rough, 3, stride=1)


@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_whitened_patches_have_one_variance_and_are_not_correlated(gain: float) -> None:
    layer, images = Whitening(gain=gain), _noise() - 0.5
    needed = layer.needs_images
    layer.initialize_from(images)
    assert (needed, layer.needs_images) == (True, False)
    found = layer(images).detach().transpose(0, 1).flatten(1)
    second_moments = found @ found.T / found.shape[1] / gain**2
    half = len(second_moments) // 2
    off_diagonal = second_moments[:half, :half] - torch.diag(second_moments.diag()[:half])
    assert off_diagonal.abs().max() < 1e-3
    variances = second_moments.diag()
    assert float(variances.max()) < 1  # 5e-4 is added to each before they are made one
    assert float(variances[half - 1]) > 0.95
    assert torch.equal(layer.weight[:half], -layer.weight[half:])
    assert not layer.weight.requires_grad


def test_side_of_the_patches_gives_the_number_of_filters() -> None:
    layer = Whitening(3)
    layer.initialize_from(_noise())
    assert layer(_noise(2)).shape == (2, 54, 30, 30)


def test_bias_begins_at_zero_and_is_trained() -> None:
    layer = Whitening()
    assert layer.bias is not None
    assert layer.bias.requires_grad
    assert not layer.bias.detach().any()


@pytest.mark.parametrize(("channels_in", "channels"), [(4, 9), (9, 4), (6, 6)])
def test_first_filters_pass_their_input_on(channels_in: int, channels: int) -> None:
    conv = passing_conv(channels_in, channels)
    weight = conv.weight.detach()
    assert float(weight.norm()) == pytest.approx(math.sqrt(channels), rel=1e-5)
    passed = min(channels_in, channels)
    assert torch.equal(weight[:passed, :, 1, 1] != 0, torch.eye(passed, channels_in).bool())
    assert int((weight[:passed] != 0).sum()) == passed
    assert bool((weight[passed:] != 0).all())
    maps = torch.rand(2, channels_in, 5, 5)
    scale = float(weight[0, 0, 1, 1])
    torch.testing.assert_close(conv(maps)[:, :passed], scale * maps[:, :passed])


def test_norm_has_a_scale_that_is_not_trained() -> None:
    norm = unscaled_norm(3, 1.7)
    maps = 5 + 3 * torch.randn(64, 3, 8, 8)
    found = norm(maps)
    torch.testing.assert_close(found.std((0, 2, 3)), torch.full((3,), 1.7), rtol=1e-3, atol=0)
    assert [name for name, tensor in norm.named_parameters() if tensor.requires_grad] == ["bias"]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.4 * maps.mean((0, 2, 3)), rtol=1e-4, atol=0)
