from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cifarzoo import CifarZooError, ImageClassifier, OptionError, Preprocess, RangeError, ShapeError
from cifarzoo.models.classifier import CIFAR10_MEAN, CIFAR10_STD

MakeModel = Callable[..., ImageClassifier]


def _pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_every_byte_is_the_same_as_its_share_of_255() -> None:
    every = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    preprocess = Preprocess()
    assert torch.equal(preprocess(every), preprocess(every.float() / 255))


def test_pixels_are_scaled_and_normalised_per_channel() -> None:
    pixels = _pixels(2, 3, 4, 4)
    made = Preprocess((0.1, 0.2, 0.3), (0.5, 1, 2))(pixels).numpy()
    scaled = pixels.numpy().astype(np.float64) / 255
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1), (0.3, 2)]):
        expected = (scaled[:, channel] - mean) / std
        np.testing.assert_allclose(made[:, channel], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_any_floats_become_the_networks(dtype: torch.dtype) -> None:
    images = (_pixels(1, 3, 8, 8) / 255).to(dtype)
    made = Preprocess()(images)
    assert made.dtype == torch.float32
    assert torch.equal(made, Preprocess()(images.float()))


def test_defaults_are_cifar10s_own_mean_and_deviation() -> None:
    preprocess = Preprocess()
    assert preprocess.mean.flatten().tolist() == pytest.approx(CIFAR10_MEAN)
    assert preprocess.std.flatten().tolist() == pytest.approx(CIFAR10_STD)


@given(st.integers(1, 40), st.integers(2, 40), st.integers(2, 40))
@settings(max_examples=20)
def test_images_are_resized_as_torch_does(size: int, height: int, width: int) -> None:
    pixels = _pixels(1, 3, height, width)
    made = Preprocess((0, 0, 0), (1, 1, 1), size=size)(pixels)
    expected = nn.functional.interpolate(
        pixels.float() / 255, size=(size, size), mode="bilinear", antialias=True
    )
    assert made.shape == (1, 3, size, size)
    assert torch.allclose(made, expected, atol=1e-6)
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6


def test_image_of_the_right_size_is_left_as_it_is() -> None:
    pixels = _pixels(2, 3, 32, 32)
    assert torch.equal(Preprocess(size=32)(pixels), Preprocess()(pixels))


def test_input_is_not_written_to() -> None:
    images = torch.rand(1, 3, 4, 4)
    before = images.clone()
    Preprocess(size=8)(images)
    assert torch.equal(images, before)


def test_gradients_reach_the_pixels() -> None:
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    Preprocess((0, 0, 0), (0.5, 0.5, 0.5))(images).sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad, torch.full_like(images, 2.0))


@pytest.mark.parametrize(
    ("mean", "std", "size"),
    [
        ((0.5,), (0.25, 0.25), None),
        ((), (), None),
        ((0.5,), (0,), None),
        ((0.5,), (-1,), None),
        ((0.5,), (math.nan,), None),
        ((0.5,), (0.5,), 0),
        ((0.5,), (0.5,), -32),
    ],
)
def test_constants_that_make_no_sense_are_refused(
    mean: tuple[float, ...], std: tuple[float, ...], size: int | None
) -> None:
    with pytest.raises(OptionError, match=r"mean|size"):
        Preprocess(mean, std, size=size)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 32, 32), r"images\[None\]"),
        ((2, 32, 32, 3), "permute"),
        ((2, 1, 32, 32), "convert"),
        ((2, 4, 32, 32), "convert"),
        ((2, 5, 32, 32), "needed is"),
        ((32, 32), "needed is"),
        ((), "needed is"),
    ],
)
def test_images_of_a_wrong_shape_get_a_hint(shape: tuple[int, ...], hint: str) -> None:
    for images in (torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match=hint) as caught:
            Preprocess()(images)
        assert f"images have shape {shape}; needed is (N, 3, H, W)" in str(caught.value)


@pytest.mark.parametrize(
    ("low", "high", "hint"),
    [
        (0.0, 255.0, "divide by 255"),
        (-2.0, 2.0, "the model normalises by itself"),
        (-0.01, 1.0, "normalises by itself"),
        (0.0, 1.001, "divide by 255"),
        (0.0, math.nan, r"\[nan, nan\]"),
        (0.0, math.inf, "divide by 255"),
    ],
)
def test_floats_outside_of_zero_to_one_get_a_hint(low: float, high: float, hint: str) -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    images[0, 0, 0, 0], images[1, 2, 3, 3] = low, high
    with pytest.raises(RangeError, match=hint):
        Preprocess()(images)


def test_ends_of_the_range_are_in_it() -> None:
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = 1
    assert Preprocess()(images).shape == images.shape


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.complex64])
def test_pixels_of_another_type_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(RangeError, match=f"images are {dtype}; needed is uint8, or float"):
        Preprocess()(torch.zeros(1, 3, 4, 4, dtype=dtype))


def test_constants_are_shown_where_torch_prints_the_module() -> None:
    shown = repr(Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), size=224))
    assert shown == "Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=224)"


def test_classifier_is_preprocessing_and_network() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = ImageClassifier(Preprocess(), network)
    pixels = _pixels(2, 3, 9, 7)
    assert torch.equal(model(pixels), network(model.preprocess(pixels)))


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 3, 33, 32), (2, 3, 32, 33), (2, 3, 64, 64)])
def test_network_for_one_size_refuses_others(
    model: ImageClassifier, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=r"this network takes \(N, 3, 32, 32\)") as caught:
        model(torch.zeros(shape))
    assert str(shape) in str(caught.value)
    assert isinstance(caught.value, CifarZooError)


def test_names_of_the_state_are_the_modules_own(model: ImageClassifier) -> None:
    names = list(model.state_dict())
    assert names[:2] == ["preprocess.mean", "preprocess.std"]
    assert names[2] == "network.block1.conv1.weight"
    assert all(name.startswith(("preprocess.", "network.")) for name in names)
    assert [name for name, _ in model.named_buffers()] == names[:2]


def test_weights_carry_their_preprocessing_along() -> None:
    """The normalisation that weights were trained with comes with them."""
    one, other = (
        ImageClassifier(Preprocess((mean,) * 3, (0.5,) * 3), nn.Flatten()) for mean in (0.2, 0.7)
    )
    pixels = _pixels(1, 3, 2, 2)
    assert not torch.equal(one(pixels), other(pixels))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(pixels), other(pixels))


def test_export_takes_the_preprocessing_along_and_agrees(make_model: MakeModel) -> None:
    model = make_model(block_norm="batch").eval()
    pixels = _pixels(5, 3, 32, 32)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (_pixels(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        assert torch.allclose(exported.module()(pixels), model(pixels), atol=1e-6)
        floats = torch.export.export(model, (pixels / 255,))
        assert torch.allclose(floats.module()(pixels / 255), model(pixels), atol=1e-6)


def test_channels_last_gives_the_same_answer(model: ImageClassifier) -> None:
    pixels = _pixels(4, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        expected = model(pixels)
        model.to(memory_format=torch.channels_last)
        assert torch.allclose(
            model(pixels.contiguous(memory_format=torch.channels_last)), expected, atol=1e-5
        )
