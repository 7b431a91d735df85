from __future__ import annotations

import pytest
import torch
from torch import nn

from cifarzoo.errors import CifarZooError
from cifarzoo.models.report import report_model
from cifarzoo.recipe import EarlyStopping
from cifarzoo.registry import build_on_meta, card_without_weights

REPORTED = {  # layers of a block, filters of the blocks, layers of the head
    "report_baseline": ("conv5 relu pool", (32, 64, 128), "linear64 relu linear10"),
    "report_model1": (
        "conv5 relu batchnorm2d pool",
        (64, 128, 256),
        "linear64 relu batchnorm1d linear10",
    ),
    "report_model2": (
        "conv3 relu conv3 relu batchnorm2d pool dropout0.1",
        (32, 64, 128),
        "linear64 relu linear10",
    ),
    "report_best": (
        "conv3 relu conv3 relu batchnorm2d pool dropout0.1",
        (128, 128, 256),
        "linear64 relu batchnorm1d linear10",
    ),
}


def describe(layer: nn.Module) -> str:
    match layer:
        case nn.Conv2d():
            return f"conv{layer.kernel_size[0]}"
        case nn.MaxPool2d(kernel_size=2, stride=2):
            return "pool"
        case nn.Linear():
            return f"linear{layer.out_features}"
        case nn.Dropout():
            return f"dropout{layer.p}"
        case _:
            return type(layer).__name__.lower()


def layers(model: nn.Module) -> list[nn.Module]:
    network = model.get_submodule("network")
    return [module for module in network.modules() if not isinstance(module, nn.Sequential)]


@pytest.mark.parametrize("name", REPORTED)
def test_layers_are_those_of_the_report(name: str) -> None:
    block, filters, head = REPORTED[name]
    model = build_on_meta(card_without_weights(name))
    expected = f"{block} {block} {block} flatten {head}"
    assert " ".join(map(describe, layers(model))) == expected
    widths = [layer.out_channels for layer in layers(model) if isinstance(layer, nn.Conv2d)]
    assert widths == [width for width in filters for _ in range(block.count("conv"))]


def test_baseline_layers_have_as_many_parameters_as_in_the_report() -> None:
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers(report_model())]
    assert [n for n in counts if n] == [2_432, 51_264, 204_928, 131_136, 650]


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "batch_size"),
    [
        ("report_baseline", "sgd", 0.05, 64),
        ("report_model1", "sgd", 0.05, 32),
        ("report_model2", "adam", 0.001, 64),
        ("report_best", "adam", 0.001, 64),
        ("resnet18_transfer", "adam", 5e-4, 32),
    ],
)
def test_recipe_is_that_of_the_report(
    name: str, optimizer: str, lr: float, batch_size: int
) -> None:
    recipe = card_without_weights(name).recipe
    assert (recipe.optimizer, recipe.lr, recipe.batch_size) == (optimizer, lr, batch_size)
    assert (recipe.epochs, recipe.checks_per_epoch, recipe.val_fraction) == (10, 2, 0.1)
    assert recipe.early_stopping == EarlyStopping(patience=4)
    assert (recipe.momentum, recipe.weight_decay, recipe.augmentation) == (0, 0, None)


def test_pixels_are_normalised_as_in_the_report() -> None:
    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    assert report_model().preprocess(images)[0, 0, 0].tolist() == [-2, 0, 2]


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"batch_norm": True}, 2 * (32 + 64 + 128)),
        ({"head_norm": True}, 2 * 64),
        ({"dropout": 0.1}, 0),
        ({"hidden": (64, 64)}, 64 * 64 + 64),
        ({"hidden": ()}, 128 * 16 * 10 + 10 - 131_136 - 650),
        ({"filters": (32, 64, 128, 256)}, 256 * (128 * 25 + 1) + 64 * (256 * 4 - 128 * 16)),
    ],
    ids=str,
)
def test_each_option_adds_its_parameters(options: dict[str, object], added: int) -> None:
    model = report_model(**options).eval()  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters()) == 390_410 + added
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_classes", 0),
        ("filters", ()),
        ("filters", (4,) * 6),
        ("filters", (4, 0)),
        ("kernel_size", 4),
        ("convs_per_block", 0),
        ("hidden", (64, 0)),
        ("dropout", 1.0),
        ("batch_norm", "none"),
    ],
)
def test_invalid_options_are_rejected(option: str, value: object) -> None:
    with pytest.raises(CifarZooError, match=r"expected|at least|at most"):
        report_model(**{option: value})  # type: ignore[arg-type]
