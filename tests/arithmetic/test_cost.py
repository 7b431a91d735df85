from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifarzoo.arithmetic import LayerCost, count_params, layer_table
from cifarzoo.errors import OptionError, ShapeError
from cifarzoo.models.classifier import ImageClassifier, Preprocess


def baseline() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10))


class Attention(nn.Module):
    """Products of its own, a parameter of its own, and functional layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv = nn.Linear(8, 24)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token, tokens], 1)
        q, k, v = self.qkv(tokens).chunk(3, -1)
        mixed: Tensor = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return mixed[:, 0]


class Fused(nn.Module):
    """A layer of torch's own that runs none of its parts, and a fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.unused = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        mixed: Tensor = self.attention(tokens, tokens, tokens)[0]
        return nn.functional.scaled_dot_product_attention(mixed, mixed, mixed)


def mixed_convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding="same", dilation=2, groups=3),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2),
        nn.GroupNorm(2, 4),
        nn.AvgPool2d(3, stride=2, ceil_mode=True),
        nn.Flatten(2),
        nn.Conv1d(4, 5, 3, stride=2),
        nn.AdaptiveMaxPool1d(3),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(15, 2),
    )


def flops_of(model: nn.Module, shape: tuple[int, ...]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *shape))
    return int(counter.get_total_flops())


def row_of(model: nn.Module, name: str) -> LayerCost:
    return next(row for row in layer_table(model) if row.name == name)


def test_answer_1g() -> None:
    model = baseline()
    rows = layer_table(model)
    assert [row.params for row in rows if row.params] == [2_432, 51_264, 204_928, 131_136, 650]
    assert sum(row.params for row in rows) == count_params(model) == 390_410


def test_rows_of_the_baseline() -> None:
    rows = layer_table(baseline())
    assert [row.kind for row in rows[:3]] == ["Conv2d", "ReLU", "MaxPool2d"]
    assert [row.name for row in rows] == [str(i) for i in range(13)]
    assert [row.output_shape for row in rows[::3]] == [
        (32, 32, 32),
        (64, 16, 16),
        (128, 8, 8),
        (2048,),
        (10,),
    ]
    assert rows[0].macs == 32 * 32 * 32 * 3 * 25
    assert rows[-1].macs == 640
    fields = [row.receptive_field for row in rows]
    assert fields == [5, 5, 6, 14, 14, 16, 32, 32, 32, 32, 32, 32, 32]


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (baseline, (3, 32, 32)),
        (mixed_convolutions, (3, 20, 24)),
        (Attention, (3, 32, 32)),
        (torchvision.models.resnet18, (3, 64, 64)),
        (torchvision.models.mobilenet_v2, (3, 32, 32)),
        (torchvision.models.squeezenet1_1, (3, 48, 48)),
        (torchvision.models.shufflenet_v2_x0_5, (3, 32, 32)),
    ],
)
def test_rows_add_up(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = build()
    rows = layer_table(model, shape)
    assert sum(row.macs for row in rows) * 2 == flops_of(model, shape) > 0
    assert all(type(row.macs) is int for row in rows)
    assert sum(row.params for row in rows) == count_params(model)
    modules = dict(model.named_modules())
    assert all(type(modules[row.name]).__name__ == row.kind for row in rows)
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.receptive_field is not None for row in rows)


def test_resnet18_has_the_receptive_fields_that_are_known_for_it() -> None:
    """Araujo, Norris and Sim, "Computing receptive fields of convolutional networks", 2019."""
    fields = {r.name: r.receptive_field for r in layer_table(_thin_resnet18(), (1, 448, 448))}
    assert fields["conv1"] == 7
    assert fields["maxpool"] == 11
    assert fields["layer1.1.relu"] == 43
    assert fields["layer2.1.relu"] == 99
    assert fields["layer3.1.relu"] == 211
    assert fields["layer4.1.relu"] == 435
    assert fields["fc"] == 448


def _thin_resnet18() -> nn.Module:
    """Its geometry with one input channel and few filters, so that a large image is cheap."""
    model: nn.Module = torchvision.models.resnet18()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.out_channels = module.in_channels = 1
            module.weight = nn.Parameter(torch.zeros(1, 1, *module.kernel_size))
        if isinstance(module, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(module, name).data = torch.ones(1)
    model.add_module("fc", nn.Linear(1, 10))
    return model


def test_products_of_a_module_are_its_own_row() -> None:
    tokens = 65
    rows = {row.name: row for row in layer_table(Attention())}
    assert list(rows) == ["", "patches", "qkv"]
    assert rows[""].params == 8
    assert rows[""].macs == 2 * tokens * tokens * 8
    assert rows["qkv"].macs == tokens * 8 * 24
    assert (rows["patches"].receptive_field, rows[""].receptive_field) == (4, 32)


def test_attention_is_counted_by_its_products() -> None:
    model, n = Fused(), 16
    rows = {row.name: row for row in layer_table(model, (8, 4, 4))}
    assert rows["attention"].macs == n * 8 * 24 + n * 8 * 8 + 2 * n * n * 8
    assert rows["attention"].params == count_params(model.attention)
    assert rows[""].macs == 2 * n * n * 8
    assert rows["unused"] == LayerCost(
        name="unused", kind="Linear", output_shape=(), params=20, macs=0, receptive_field=None
    )
    assert sum(row.params for row in rows.values()) == count_params(model)


def test_transformer_encoder() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    )
    rows = layer_table(model, (5, 2, 4))
    products = 5 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * 5 * 5 * 8
    assert sum(row.macs for row in rows) == 2 * products
    assert sum(row.params for row in rows) == count_params(model)


def test_what_the_counter_has_no_formula_for_counts_as_nothing() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 4, batch_first=True)
            self.scales = nn.ParameterList([nn.Parameter(torch.ones(3))])

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.lstm(images[:, 0])[0]
            return out

    model = Recurrent()
    rows = layer_table(model, (1, 8, 8))
    assert [(row.kind, row.params, row.macs) for row in rows] == [
        ("LSTM", count_params(model.lstm), 0),
        ("ParameterList", 3, 0),
    ]
    assert rows[0].receptive_field is None


def test_wrapped_models() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    expected = [(row.kind, row.params, row.macs) for row in layer_table(model)]
    parallel = layer_table(nn.DataParallel(model))
    assert [(row.kind, row.params, row.macs) for row in parallel] == expected


def test_scripted_models_are_refused() -> None:
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(OptionError, match="pass the model that it was made from"):
        layer_table(scripted)


def test_shared_parameters_count_once() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    model = nn.Sequential(first, first, second)
    assert count_params(model) == 9 + 3 + 3
    assert [(row.params, row.macs) for row in layer_table(model, (3, 2, 2))] == [(12, 72), (3, 36)]


def test_trainable_parameters() -> None:
    model = baseline()
    model[0].requires_grad_(False)
    assert count_params(model, which="trainable") == 390_410 - 2_432
    assert count_params(model, which="all") == 390_410
    assert all(p.requires_grad for p in model[3].parameters())


def test_classifier_with_preprocessing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.Flatten(), nn.Linear(4 * 29 * 29, 10))
    model = ImageClassifier(Preprocess(size=64), network)
    rows = layer_table(model)
    assert [row.name for row in rows] == ["preprocess", "network.0", "network.1", "network.2"]
    assert rows[0].output_shape == (3, 64, 64)
    # two pixels for a bilinear resize; seven half-pixel steps further, five
    assert [row.receptive_field for row in rows] == [2, 5, 5, 32]


def test_a_model_that_is_one_layer() -> None:
    assert layer_table(nn.Linear(10, 5), (10,)) == (
        LayerCost(
            name="", kind="Linear", output_shape=(5,), params=55, macs=50, receptive_field=None
        ),
    )


def test_rows_are_frozen() -> None:
    row = row_of(baseline(), "0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.params = 0  # type: ignore[misc]


@pytest.mark.parametrize("bad", ["resnet18", None, torch.zeros(3)])
def test_not_a_module(bad: nn.Module) -> None:
    with pytest.raises(OptionError, match=r"needed is a torch\.nn\.Module"):
        layer_table(bad)
    with pytest.raises(OptionError, match=r"needed is a torch\.nn\.Module"):
        count_params(bad)


def test_unknown_which() -> None:
    with pytest.raises(OptionError, match="did you mean 'trainable'"):
        count_params(baseline(), which="trainabel")  # type: ignore[arg-type]


def test_lazy_layers_are_refused() -> None:
    with pytest.raises(OptionError, match=r"'0\.weight' is lazy"):
        layer_table(nn.Sequential(nn.LazyConv2d(4, 3)))


@pytest.mark.parametrize("size", [(), (3, 0, 32), (3, 32.0, 32), 32, "3"])
def test_bad_input_sizes(size: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"like \(3, 32, 32\)"):
        layer_table(baseline(), size)


def test_an_image_that_the_model_cannot_take() -> None:
    with pytest.raises(ShapeError, match=r"zero image of shape \(1, 1, 32, 32\).*input_size"):
        layer_table(baseline(), (1, 32, 32))


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(("conv", "pool", "norm", "act")),
        st.integers(1, 8),  # channels out
        st.integers(1, 4),  # kernel
        st.integers(1, 3),  # stride
        st.integers(0, 2),  # padding
        st.booleans(),  # bias
    ),
    min_size=1,
    max_size=6,
)


@given(numbers=LAYERS, side=st.integers(4, 20))
def test_any_stack_of_layers_costs_what_torch_says(
    numbers: list[tuple[str, int, int, int, int, bool]], side: int
) -> None:
    layers: list[nn.Module] = []
    shapes: list[tuple[int, ...]] = []
    maps = torch.zeros(1, 3, side, side)
    for kind, after, kernel, stride, padding, bias in numbers:
        before = maps.shape[1]
        if kind == "conv" and kernel <= maps.shape[2] + 2 * padding:
            layers.append(nn.Conv2d(before, after, kernel, stride, padding, bias=bias))
        elif kind == "pool" and kernel <= maps.shape[2]:
            layers.append(nn.MaxPool2d(kernel, stride, min(padding, kernel // 2)))
        elif kind == "norm":
            layers.append(nn.BatchNorm2d(before))
        else:
            layers.append(nn.ReLU())
        maps = layers[-1].eval()(maps)
        shapes.append(tuple(maps.shape[1:]))
    model = nn.Sequential(*layers)
    rows = layer_table(model, (3, side, side))
    assert [row.output_shape for row in rows] == shapes
    assert [row.params for row in rows] == [
        sum(tensor.numel() for tensor in layer.parameters()) for layer in layers
    ]
    assert sum(row.params for row in rows) == count_params(model)
    assert 2 * sum(row.macs for row in rows) == flops_of(model, (3, side, side))
