from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from typing_extensions import override

from cifarzoo.arithmetic import layer_table, receptive_area
from cifarzoo.arithmetic.receptive import receptive_fields
from cifarzoo.errors import InvalidValueError
from cifarzoo.models.classifier import ImageClassifier, Preprocess
from cifarzoo.registry import build_model, build_on_meta, list_models, model_card


def fields_of(model: nn.Module, size: tuple[int, ...] = (3, 32, 32)) -> dict[str, int | None]:
    return {row.name: row.receptive_field for row in layer_table(model, size)}


def test_resnet18_has_its_published_receptive_fields() -> None:
    """Araujo, Norris and Sim, "Computing receptive fields of convolutional networks", 2019."""
    fields = fields_of(torchvision.models.resnet18(), (3, 256, 256))
    assert fields["conv1"] == 7
    assert fields["maxpool"] == 11
    assert fields["layer1.1.relu"] == 43
    assert fields["layer2.1.relu"] == 99
    assert fields["layer3.1.relu"] == 211
    assert fields["layer4.1.relu"] == fields["fc"] == 256


def test_resnet20_by_hand() -> None:
    """The stem has 3; later convolutions add 2, 4 or 8 at full, half or quarter resolution."""
    fields = fields_of(build_model("resnet20"), (3, 160, 160))
    assert fields["network.stage1.2.act"] == 3 + 6 * 2 == 15
    assert fields["network.stage2.0.act"] == 15 + 2 + 4 == 21
    assert fields["network.stage2.2.act"] == 21 + 4 * 4 == 37
    assert fields["network.stage3.2.act"] == 37 + 4 + 5 * 8 == 81


@pytest.mark.parametrize("name", list_models())
def test_every_zoo_model_is_measured(name: str) -> None:
    rows = layer_table(build_on_meta(model_card(name)))
    assert all(row.receptive_field for row in rows)
    assert rows[-1].receptive_field == 32


class Swapped(nn.Module):
    @override
    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1)


class Soft(nn.Module):
    """Two branches that are concatenated, with functions between the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 2, (1, 5), padding=(0, 2))
        self.deep = nn.Conv2d(3, 2, 3, padding=1)

    @override
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.wide(images), self.deep(images).relu_() * 2], 1)


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        (nn.Conv2d(3, 4, 3, dilation=3), 7),
        (nn.Conv2d(3, 6, 3, padding="same", groups=3), 3),
        (nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), 2),
        (nn.MaxPool2d(3), 3),
        (nn.AvgPool2d(3, stride=2, ceil_mode=True), 3),
        (nn.AdaptiveAvgPool2d(1), 12),
        (nn.AdaptiveMaxPool2d(5), 4),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 2),
        (nn.PixelUnshuffle(2), 1),
        (nn.Flatten(), 1),
        (nn.GroupNorm(1, 3), 12),
        (nn.LSTM(12, 4, batch_first=True), 12),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 2)), 12),
        (nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 13, padding=6)), 12),
        (nn.Sequential(Swapped(), nn.LayerNorm(3), nn.Linear(3, 4)), 1),
        (Soft(), 5),
        *((layer, 1) for layer in (nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.GELU(), nn.SiLU())),
        *((layer, 1) for layer in (nn.BatchNorm2d(3), nn.Softmax2d(), nn.LocalResponseNorm(3))),
    ],
)
def test_known_fields_of_single_layers(layer: nn.Module, field: int) -> None:
    size = (12, 12) if isinstance(layer, nn.LSTM) else (3, 12, 12)
    rows = layer_table(layer, size)
    assert max(row.receptive_field or 0 for row in rows) == field
    assert rows[-1].receptive_field == (3 if isinstance(layer, Soft) else field)


def test_preprocessing_may_resize_and_reject_nan() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.Flatten(), nn.Linear(4 * 29 * 29, 10))
    fields = fields_of(ImageClassifier(Preprocess(size=64), network))
    # Two pixels for a bilinear resize; seven half pixels take five.
    assert list(fields.values()) == [2, 5, 5, 32]


def test_unmeasurable_fields_are_none() -> None:
    class Constant(nn.Module):
        @override
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros_like(images)

    class Strict(nn.Module):
        @override
        def forward(self, images: Tensor) -> Tensor:
            assert images.min() >= 0
            return images

    for model, size in ((Constant(), (3, 8, 8)), (Strict(), (3, 8, 8)), (nn.Linear(5, 2), (5,))):
        assert list(fields_of(model, size).values()) == [None]


def seen_by_gradient(model: nn.Module, row: int, column: int, side: int) -> tuple[object, ...]:
    """Return the area of pixels with a gradient in a linear network with weights of 1."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    model(image)[0, :, row, column].sum().backward()
    assert image.grad is not None
    indices = image.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    return tuple((int(each.min()), int(each.max()) + 1) for each in indices if len(each))


@settings(max_examples=40)
@given(
    layers=st.lists(
        st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2)),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
def test_area_equals_that_of_the_gradient(
    layers: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 3, kernel, stride=s, padding=p) for kernel, s, p in layers)
    )
    height, width = model(torch.zeros(1, 3, 40, 40)).shape[2:]
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    expected = seen_by_gradient(model, row, column, 40)
    layer = str(len(layers) - 1)
    if expected:
        assert receptive_area(model, layer, (row, column), (3, 40, 40)) == expected
    else:  # only padding
        with pytest.raises(InvalidValueError, match="depends on the image"):
            receptive_area(model, layer, (row, column), (3, 40, 40))


def test_default_position_is_the_centre() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, (5, 3), padding=2), nn.AdaptiveAvgPool2d(1))
    assert receptive_area(model, "0") == ((14, 19), (15, 18))
    assert receptive_area(model, "1", (0, 0)) == ((0, 32), (0, 32))


def test_unknown_layers_and_positions_outside_the_maps_are_rejected() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(InvalidValueError, match="layer is 'conv'"):
        receptive_area(model, "conv", input_size=(3, 8, 8))
    for layer, position in (("0", (0, 6)), ("0", (-1, 0)), ("2", None)):
        with pytest.raises(InvalidValueError, match="position"):
            receptive_area(model, layer, position, (3, 8, 8))


class Queries(nn.Module):
    """Attention pooling with learned queries, a view of which is given to submodules."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 2, 8))
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)

    @override
    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        query = self.norm(self.query.expand(len(images), -1, -1))
        pooled: Tensor = self.pool(query, tokens, tokens)[0]
        return pooled


class Dynamic(nn.Module):
    """A convolution whose kernel is computed from the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Linear(3, 27)
        self.after = nn.Identity()

    @override
    def forward(self, images: Tensor) -> Tensor:
        kernels = self.kernel(images.mean((2, 3))).view(-1, 1, 3, 3)
        batch = images.flatten(0, 1)[None]
        output = nn.functional.conv2d(batch, kernels, padding=1, groups=len(kernels))
        mixed: Tensor = self.after(output.view(images.shape))
        return mixed


class Deformable(nn.Module):
    """A deformable convolution whose offsets are 0, except that they depend on 5×5 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(3, 18, 5, padding=2, bias=False)
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))
        nn.init.zeros_(self.offsets.weight)

    @override
    def forward(self, images: Tensor) -> Tensor:
        offsets = self.offsets(images)
        output: Tensor = torchvision.ops.deform_conv2d(images, offsets, self.weight, padding=1)
        return output


class Windows(nn.Module):
    """Attention within windows of at most 4×4 tokens, shifted by `shift`, as in Swin."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    @override
    def forward(self, images: Tensor) -> Tensor:
        n, c, height, width = images.shape
        side = min(4, height, width // 2)
        rolled = images.roll((-self.shift, -self.shift), (2, 3))
        parts = rolled.view(n, c, height // side, side, width // side, side)
        tokens = parts.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, c)
        mixed = self.attention(tokens, tokens, tokens)[0].view(n, height // side, -1, side, side, c)
        maps: Tensor = mixed.permute(0, 5, 1, 3, 2, 4).reshape(n, c, height, width)
        return maps.roll((self.shift, self.shift), (2, 3))


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (Queries(), {"patches": 4, "norm": None, "pool": 16, "": 16}),
        (nn.Upsample(scale_factor=2, mode="nearest"), {"": 1}),
        (Dynamic(), {"kernel": 16, "after": 16}),
        (Deformable(), {"": 5}),
        (Windows(0), {"attention": 4}),
        (nn.Sequential(Windows(0), nn.Conv2d(3, 3, 3, padding=1)), {"1": 8}),
        (nn.Sequential(Windows(0), Windows(2)), {"1.attention": 16}),
    ],
)
def test_fields_of_attention_and_dynamic_kernels(
    model: nn.Module, fields: dict[str, int | None]
) -> None:
    """Windows that are rolled around the border join both ends of the image."""
    measured = receptive_fields(model, (3, 16, 16))
    assert {name: measured.get(name) for name in fields} == fields


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fields_do_not_depend_on_the_dtype(dtype: torch.dtype) -> None:
    model = build_model("resnet20")
    assert fields_of(model.to(dtype)) == fields_of(model.float())
