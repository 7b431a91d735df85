from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from cifarzoo.arithmetic import LayerRow, count_params, layer_table
from cifarzoo.errors import CifarZooError, InvalidTypeError
from cifarzoo.models.report import report_model


def flops_of(model: nn.Module, size: tuple[int, ...]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *size))
    return int(counter.get_total_flops())


class Attention(nn.Module):
    """A module with its own products and parameter, and functional layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv = nn.Linear(8, 24)

    @override
    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(images), 1, 8)
        q, k, v = self.qkv(torch.cat([token, tokens], 1)).chunk(3, -1)
        mixed: Tensor = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return mixed[:, 0]


class Fused(nn.Module):
    """A layer that does not call its submodules, a fused kernel, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.unused = nn.Linear(4, 4)

    @override
    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        mixed: Tensor = self.attention(tokens, tokens, tokens)[0]
        return nn.functional.scaled_dot_product_attention(mixed, mixed, mixed)


def test_answer_of_task_1g() -> None:
    model = report_model(filters=(32, 64, 128), kernel_size=5, hidden=(64,))
    rows = layer_table(model)
    assert [row.params for row in rows if row.params] == [2_432, 51_264, 204_928, 131_136, 650]
    assert sum(row.params for row in rows) == count_params(model) == 390_410
    convolutions = [row for row in rows if row.kind == "Conv2d"]
    assert [row.output_shape for row in convolutions] == [(32, 32, 32), (64, 16, 16), (128, 8, 8)]
    assert convolutions[0].macs == 32 * 32 * 32 * 3 * 25


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (Attention, (3, 32, 32)),
        (torchvision.models.resnet18, (3, 64, 64)),
        (torchvision.models.mobilenet_v2, (3, 32, 32)),
        (torchvision.models.shufflenet_v2_x0_5, (3, 32, 32)),
    ],
)
def test_rows_sum_to_the_model(build: Callable[[], nn.Module], size: tuple[int, ...]) -> None:
    model = build()
    rows = layer_table(model, size)
    assert sum(row.macs for row in rows) * 2 == flops_of(model, size) > 0
    assert sum(row.params for row in rows) == count_params(model)
    modules = dict(model.named_modules())
    assert all(type(modules[row.name]).__name__ == row.kind for row in rows)
    assert len({row.name for row in rows}) == len(rows)


def test_products_outside_layers_count_for_the_enclosing_module() -> None:
    tokens = 65
    rows = {row.name: row for row in layer_table(Attention())}
    assert list(rows) == ["", "patches", "qkv"]
    assert (rows[""].params, rows[""].macs) == (8, 2 * tokens * tokens * 8)
    assert rows["qkv"].macs == tokens * 8 * 24
    assert [row.receptive_field for row in rows.values()] == [32, 4, 4]


def test_fused_attention_counts_its_products() -> None:
    model, n = Fused(), 16
    rows = {row.name: row for row in layer_table(model, (8, 4, 4))}
    assert rows["attention"].macs == n * 8 * 24 + n * 8 * 8 + 2 * n * n * 8
    assert rows["attention"].params == count_params(model.attention)
    assert rows[""].macs == 2 * n * n * 8
    assert rows["unused"] == LayerRow(
        name="unused", kind="Linear", output_shape=(), params=20, macs=0, receptive_field=None
    )


def test_shared_modules_and_parameters_count_once() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    model = nn.Sequential(first, first, second)
    assert count_params(model) == 9 + 3 + 3
    first.requires_grad_(False)
    assert count_params(model, trainable_only=True) == 3
    assert [(row.params, row.macs) for row in layer_table(model, (3, 2, 2))] == [(12, 72), (3, 36)]


def test_model_on_the_meta_device_has_the_same_table() -> None:
    model = report_model(filters=(4, 8), kernel_size=3, hidden=(8,), batch_norm=True)
    with torch.device("meta"):
        on_meta = report_model(filters=(4, 8), kernel_size=3, hidden=(8,), batch_norm=True)
    assert layer_table(on_meta) == layer_table(model)


class Counting(nn.Module):
    """A layer that changes its buffers when it runs."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("calls", torch.zeros(()))

    @override
    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        self.calls += 1
        output: Tensor = self.norm(images)
        return output


def test_model_is_unchanged() -> None:
    model = Counting()
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer_table(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert (model.training, model.norm.training) == (True, False)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_table_ends_with_totals() -> None:
    table = layer_table(nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU())).table()
    assert table.rows[0] == ("0", "Conv2d", "32×32×32", "2,432", "2,457,600", "5")
    assert table.rows[-1] == ("total", "", "", "2,432", "2,457,600", "")


def test_scripted_and_lazy_models_are_rejected() -> None:
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.script(nn.Sequential(nn.ReLU()))
        lazy = nn.Sequential(nn.LazyConv2d(4, 3)), nn.LazyBatchNorm2d(affine=False)
    bad: list[Any] = ["resnet18", None, scripted, nn.Sequential(scripted), *lazy]
    for model in bad:
        for function in (layer_table, count_params):
            with pytest.raises(InvalidTypeError, match=r"model (is|has).*expected"):
                function(model)


@pytest.mark.parametrize("size", [(), (3, 0, 32), (3, 32.5, 32), 32, (1, 32, 32)])
def test_invalid_input_sizes_are_rejected(size: Any) -> None:  # noqa: ANN401
    with pytest.raises(CifarZooError, match=r"input_size|fails on images of shape"):
        layer_table(nn.Conv2d(3, 4, 3), size)
