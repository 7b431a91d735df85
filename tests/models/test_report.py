from __future__ import annotations

import doctest
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cifarzoo import EarlyStopping, Layout, OptionError, build_model, model_card, report_model
from cifarzoo.models import report
from cifarzoo.models.report import BASELINE, BEST, CARDS, MODEL1, MODEL2

NAMES = ["report_baseline", "report_model1", "report_model2", "report_best"]

BLOCK = {
    "report_baseline": "conv5 relu pool",
    "report_model1": "conv5 relu norm2d pool",
    "report_model2": "conv3 relu conv3 relu norm2d pool dropout0.1",
    "report_best": "conv3 relu conv3 relu norm2d pool dropout0.1",
}
HEAD = {
    "report_baseline": "flatten linear64 relu linear10",
    "report_model1": "flatten linear64 relu norm1d linear10",
    "report_model2": "flatten linear64 relu linear10",
    "report_best": "flatten linear64 relu norm1d linear10",
}
FILTERS = {
    "report_baseline": (32, 64, 128),
    "report_model1": (64, 128, 256),
    "report_model2": (32, 64, 128),
    "report_best": (128, 128, 256),
}


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        size = module.kernel_size[0]
        assert module.kernel_size == (size, size)
        assert module.stride == (1, 1)
        assert module.padding == (size // 2, size // 2)
        assert module.bias is not None
        return f"conv{size}"
    if isinstance(module, nn.MaxPool2d):
        assert (module.kernel_size, module.stride, module.padding) == (2, 2, 0)
        return "pool"
    if isinstance(module, nn.Linear):
        return f"linear{module.out_features}"
    if isinstance(module, nn.Dropout):
        return f"dropout{module.p}"
    names = {nn.ReLU: "relu", nn.BatchNorm2d: "norm2d", nn.BatchNorm1d: "norm1d"}
    return names.get(type(module), "flatten" if isinstance(module, nn.Flatten) else "?")


def _layers(model: nn.Module) -> list[nn.Module]:
    network = model.get_submodule("network")
    return [module for module in network.modules() if not isinstance(module, nn.Sequential)]


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_the_reports_in_its_order(name: str) -> None:
    expected = " ".join([BLOCK[name]] * 3 + [HEAD[name]])
    assert " ".join(map(_kind, _layers(build_model(name)))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_the_reports(name: str) -> None:
    convolutions = [m for m in _layers(build_model(name)) if isinstance(m, nn.Conv2d)]
    per_block = len(convolutions) // 3
    expected = [filters for filters in FILTERS[name] for _ in range(per_block)]
    assert [m.out_channels for m in convolutions] == expected
    assert [m.in_channels for m in convolutions] == [3, *expected[:-1]]


def test_baseline_has_390_410_parameters_layer_by_layer() -> None:
    model = build_model("report_baseline")
    layers = [sum(p.numel() for p in layer.parameters()) for layer in _layers(model)]
    assert [count for count in layers if count] == [2_432, 51_264, 204_928, 131_136, 650]
    assert sum(layers) == sum(p.numel() for p in model.parameters()) == 390_410


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_normalised_as_the_report_did(name: str) -> None:
    preprocess = build_model(name).preprocess
    assert preprocess.mean.flatten().tolist() == [0.5] * 3
    assert preprocess.std.flatten().tolist() == [0.25] * 3
    assert preprocess.size is None


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "batch_size"),
    [
        ("report_baseline", "sgd", 0.05, 64),
        ("report_model1", "sgd", 0.05, 32),
        ("report_model2", "adam", 0.001, 64),
        ("report_best", "adam", 0.001, 64),
    ],
)
def test_recipe_is_the_reports(name: str, optimizer: str, lr: float, batch_size: int) -> None:
    recipe = model_card(name).recipe
    assert (recipe.optimizer, recipe.lr, recipe.batch_size) == (optimizer, lr, batch_size)
    assert (recipe.epochs, recipe.checks_per_epoch, recipe.val_fraction) == (10, 2, 0.1)
    assert recipe.early_stopping == EarlyStopping(patience=4)
    assert (recipe.momentum, recipe.weight_decay, recipe.label_smoothing) == (0, 0, 0)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.keep) == ("constant", 0, "best")
    assert recipe.augmentation is None


def test_weights_begin_as_torchs_layers_do() -> None:
    torch.manual_seed(0)
    model = build_model("report_baseline")
    torch.manual_seed(0)
    first = nn.Conv2d(3, 32, 5, padding=2)
    assert torch.equal(model.get_parameter("network.block1.conv1.weight"), first.weight)
    assert first.bias is not None
    assert torch.equal(model.get_parameter("network.block1.conv1.bias"), first.bias)


def test_layouts_differ_as_the_report_says() -> None:
    assert Layout() == BASELINE
    assert (
        replace(MODEL1, filters=BASELINE.filters, block_norm="none", head_norm="none") == BASELINE
    )
    assert replace(BEST, filters=MODEL2.filters, head_norm="none") == MODEL2
    assert [card.name for card in CARDS] == NAMES


def test_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(report).failed == 0


@given(
    filters=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    convs=st.integers(1, 3),
    hidden=st.lists(st.integers(1, 5), max_size=2),
    norms=st.sampled_from([("none", "none"), ("batch", "none"), ("none", "batch")]),
    dropout=st.floats(0, 0.9),
    num_classes=st.integers(1, 12),
)
@settings(max_examples=30, deadline=None)
def test_every_layout_builds_a_classifier_of_32_pixels(
    filters: list[int],
    kernel_size: int,
    convs: int,
    hidden: list[int],
    norms: tuple[report.NormName, report.NormName],
    dropout: float,
    num_classes: int,
) -> None:
    layout = Layout(
        filters=tuple(filters),
        kernel_size=kernel_size,
        convs_per_block=convs,
        hidden=tuple(hidden),
        block_norm=norms[0],
        head_norm=norms[1],
        dropout=dropout,
    )
    model = report_model(layout, num_classes).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, num_classes)
    kinds = [_kind(layer) for layer in _layers(model)]
    after = {before: kind for before, kind in pairwise(kinds) if before.startswith("conv")}
    assert set(after.values()) == {"relu"}
    assert kinds.count("pool") == len(filters)
    assert kinds.count("norm2d") == len(filters) * (norms[0] == "batch")
    assert kinds.count("norm1d") == len(hidden) * (norms[1] == "batch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": ()}, "one to five blocks"),
        ({"filters": (4,) * 6}, "one to five blocks"),
        ({"filters": (4, 0)}, "1 or more"),
        ({"kernel_size": 4}, "kernel_size is 4; allowed: odd"),
        ({"kernel_size": -1}, "kernel_size is -1"),
        ({"convs_per_block": 0}, "1 or more"),
        ({"hidden": (64, 0)}, "1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"block_norm": "batchnorm"}, "unknown block_norm 'batchnorm'; did you mean 'batch'"),
        ({"head_norm": None}, "unknown head_norm None; allowed: none, batch"),
    ],
)
def test_layout_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(Layout(), **changes)  # type: ignore[arg-type]
