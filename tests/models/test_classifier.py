from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from cifarzoo.errors import InvalidTypeError, InvalidValueError
from cifarzoo.models.classifier import ImageClassifier, Preprocess


def _pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [None, 8, 40])
def test_preprocessing_agrees_with_torchvision(size: int | None) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 1, 2)
    resize = [] if size is None else [v2.Resize((size, size), antialias=True)]
    reference = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), *resize, v2.Normalize(list(mean), list(std))]
    )
    images = _pixels(2, 3, 16, 20)
    torch.testing.assert_close(Preprocess(mean, std, size=size)(images), reference(images))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_byte_equals_its_fraction_of_255(dtype: torch.dtype) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    preprocess = Preprocess()
    assert torch.equal(preprocess(images), preprocess(images.to(dtype) / 255))


def test_images_are_not_modified_and_receive_gradients() -> None:
    images = torch.rand(1, 3, 4, 4)
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    images.requires_grad_()
    before = images.detach().clone()
    Preprocess((0, 0, 0), (0.5, 0.5, 0.5))(images).sum().backward()
    assert torch.equal(images, before)
    assert images.grad is not None
    assert torch.equal(images.grad, torch.full_like(images, 2.0))


@pytest.mark.parametrize(
    ("mean", "std", "size"),
    [
        ((0.5,), (0.25, 0.25), None),
        ((), (), None),
        ((0.5,), (0,), None),
        ((math.inf,), (0.5,), None),
        ((0.5,), (0.5,), 0),
    ],
)
def test_invalid_constants_are_rejected(
    mean: tuple[float, ...], std: tuple[float, ...], size: int | None
) -> None:
    with pytest.raises(InvalidValueError, match=r"std|size"):
        Preprocess(mean, std, size=size)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 32, 32), r"images\[None\]"),
        ((2, 32, 32, 3), "permute"),
        ((2, 1, 32, 32), "convert"),
        ((2, 4, 32, 32), "convert"),
        ((2, 5, 32, 32), "expected"),
        ((), "expected"),
    ],
)
def test_the_error_for_a_wrong_shape_has_a_hint(shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(InvalidValueError, match=hint):
        Preprocess()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("low", "high", "hint"),
    [
        (0.0, 255.0, "divide by 255"),
        (-2.0, 2.0, "not normalised"),
        (-1.0, 1.0, "not normalised"),
        (-0.1, 1.1, r"in \[-0\.1, 1\.1\].*clamp"),
        (0.0, 1.02, r"in \[0, 1\.02\].*clamp"),
        (0.0, math.nan, "contain NaN or infinity"),
        (-math.inf, 1.0, "contain NaN or infinity"),
    ],
)
def test_the_error_for_a_wrong_range_has_a_hint(low: float, high: float, hint: str) -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    images[0, 0, 0, 0], images[1, 2, 3, 3] = low, high
    with pytest.raises(InvalidValueError, match=hint):
        Preprocess()(images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rounding_errors_are_clamped(dtype: torch.dtype) -> None:
    pixels = _pixels(8, 3, 32, 32) // 128 * 255 / torch.tensor(255, dtype=dtype)
    mean, std = torch.tensor([0.49, 0.25], dtype=dtype)
    blurred = v2.functional.gaussian_blur(torch.ones(1, 3, 32, 32, dtype=dtype), [3, 3], [5, 5])
    excess = torch.full((1, 3, 4, 4), 1 + float(torch.finfo(dtype).eps), dtype=dtype)
    for images in ((pixels - mean) / std * std + mean, blurred, excess, 1 - excess):
        expected = images.double().clamp(0, 1).to(dtype)
        assert torch.equal(Preprocess()(images), Preprocess()(expected))


def test_wrong_types_are_rejected() -> None:
    with pytest.raises(InvalidTypeError, match="ndarray"):
        Preprocess()(torch.zeros(1, 3, 4, 4).numpy())
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(InvalidValueError, match="uint8, or float"):
            Preprocess()(torch.zeros(1, 3, 4, 4, dtype=dtype))


@pytest.mark.parametrize(
    ("limit", "accepted", "rejected", "message"),
    [
        ({"image_size": 8}, [(8, 8)], [(7, 7), (9, 8), (8, 9)], "expected 8×8"),
        ({"min_image_size": 8}, [(8, 9), (20, 8)], [(9, 7), (7, 9)], "at least 8×8"),
    ],
)
def test_other_image_sizes_are_rejected(
    limit: dict[str, int],
    accepted: list[tuple[int, int]],
    rejected: list[tuple[int, int]],
    message: str,
) -> None:
    model = ImageClassifier(Preprocess(), nn.Flatten(), **limit)
    for height, width in accepted:
        assert model(torch.zeros(1, 3, height, width)).shape == (1, 3 * height * width)
    for size in rejected:
        with pytest.raises(InvalidValueError, match=message):
            model(torch.zeros(1, 3, *size))


def test_the_state_dict_includes_the_preprocessing() -> None:
    one, other = (
        ImageClassifier(Preprocess((mean,) * 3, (0.5,) * 3), nn.Flatten()) for mean in (0.2, 0.7)
    )
    images = _pixels(1, 3, 2, 2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images), other(images))


def test_class_names_are_copied_with_the_model_but_are_no_state() -> None:
    model = ImageClassifier(Preprocess(), nn.Flatten())
    assert model.class_names is None
    keys = model.state_dict().keys()
    model.class_names = ("cat", "dog")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.class_names == ("cat", "dog")
    assert model.state_dict().keys() == keys


def test_models_export_with_a_dynamic_batch_size() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    model = ImageClassifier(Preprocess(), network, image_size=8)
    batch = torch.export.Dim("batch", min=1, max=64)
    for images in (_pixels(5, 3, 8, 8), _pixels(5, 3, 8, 8) / 255):
        exported = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},))
        torch.testing.assert_close(exported.module()(images), model(images))
