"""Families whose parameters and shapes others have published."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from cifarzoo import (
    ImageClassifier,
    OptionError,
    ShapeError,
    build_model,
    count_params,
    layer_table,
    list_models,
    model_card,
)
from cifarzoo.models import densenet, layers, mobilenet_v2, preact_resnet, resnet, tiny, vgg
from cifarzoo.models import wide_resnet as wide
from cifarzoo.registry import outline

PARAMETERS = {
    # arXiv 1512.03385, table 6: 0.27 M, 0.46 M, 0.85 M.
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet56": 853_018,
    # kuangliu/pytorch-cifar's 11,171,146, and the last norm's 1,024.
    "preact_resnet18": 11_171_146 + 1_024,
    # arXiv 1605.07146, table 4: 2.7 M (table 5's 16-4: 2.8 M), 36.5 M.
    "wrn_16_4": 2_748_890,
    "wrn_28_10": 36_479_194,
    # kuangliu/pytorch-cifar: VGG11, VGG16.
    "vgg11_bn": 9_231_114,
    "vgg16_bn": 14_728_266,
    # pytorchcv: densenet40_k12_bc_cifar10.
    "densenet40_k12": 176_122,
    # torchvision: mobilenet_v2(num_classes=10).
    "mobilenet_v2": 2_236_682,
}
OWN = {
    # The report's table 1 gives the first; the others follow from what it says of its networks.
    "report_baseline": 390_410,
    "report_model1": 1_293_130,
    "report_model2": 419_242,
    "report_best": 1_595_594,
    # torchvision's resnet18 without its last layer, and one of 512 to 10.
    "resnet18_transfer": 11_689_512 - 513_000 + 5_130,
    # KellerJordan/cifar10-airbench, airbench94_muon's network, and at two other widths.
    "sprint_s": 498_104,
    "sprint_m": 1_972_792,
    "sprint_m3": 1_949_368,
    "sprint_l": 9_918_776,
    # Networks of our own.
    "tiny_s": 42_230,
    "tiny_m": 89_562,
}
MAPS = {  # channels and side of what each stage gives, for an image of 32 pixels
    # arXiv 1512.03385, section 4.2.
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet56": [(16, 32), (32, 16), (64, 8)],
    # arXiv 1512.03385, table 1, at a stride that fits 32 pixels.
    "preact_resnet18": [(64, 32), (128, 16), (256, 8), (512, 4)],
    # arXiv 1605.07146, table 1.
    "wrn_16_4": [(64, 32), (128, 16), (256, 8)],
    "wrn_28_10": [(160, 32), (320, 16), (640, 8)],
    # arXiv 1409.1556, table 1.
    "vgg16_bn": [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)],
    # arXiv 1801.04381, table 2.
    "mobilenet_v2": [(16, 32), (24, 32), (32, 16), (64, 8), (96, 8), (160, 4), (320, 4)],
}
ANY_SIZE = ("resnet20", "preact_resnet18", "wrn_16_4", "densenet40_k12", "mobilenet_v2", "tiny_m")

pair = functools.partial(tiny.TinyLayout, filters=(6, 8), depths=(1, 1))


def parts(name: str) -> dict[str, nn.Module]:
    return dict(outline(model_card(name)).network.named_children())


@pytest.mark.parametrize("name", list_models())
def test_parameters_are_as_published(name: str) -> None:
    assert count_params(outline(model_card(name))) == {**PARAMETERS, **OWN}[name]


@pytest.mark.parametrize("name", MAPS)
def test_stages_give_the_papers_shapes(name: str) -> None:
    maps, found = torch.zeros(1, 3, 32, 32, device="meta"), list[tuple[int, int]]()
    for part, module in parts(name).items():
        maps = module(maps)
        if part.startswith("stage"):
            assert maps.shape[-2] == maps.shape[-1]
            found.append((maps.shape[1], maps.shape[-1]))
    assert found == MAPS[name]


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("size", [(4, 4), (13, 31), (48, 40)])
def test_images_of_any_size_give_logits(name: str, size: tuple[int, int]) -> None:
    model = outline(model_card(name)).eval()
    assert model(torch.zeros(2, 3, *size, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("name", "least"), [("vgg11_bn", 32), ("densenet40_k12", 4)])
def test_image_that_cannot_be_halved_often_enough_is_refused(name: str, least: int) -> None:
    model = outline(model_card(name)).eval()
    assert model(torch.zeros(1, 3, least, least, device="meta")).shape == (1, 10)
    with pytest.raises(ShapeError, match=f"from {least} up"):
        model(torch.zeros(1, 3, 64, least - 1, device="meta"))


@pytest.mark.parametrize(
    "name", [*PARAMETERS, "tiny_s", "tiny_m"], ids=lambda name: f"{name}-of-no-class"
)
def test_builder_refuses_no_class(name: str) -> None:
    with pytest.raises(OptionError, match="num_classes is 0; allowed: whole numbers, 1 or more"):
        model_card(name).builder(0)


@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet56"])
def test_residual_network_has_as_many_layers_as_its_name_says(name: str) -> None:
    rows = layer_table(outline(model_card(name)))
    assert sum(row.kind in ("Conv2d", "Linear") for row in rows) == int(name[6:])
    assert all(conv.kernel_size == (3, 3) for conv in _convs(name)), "shortcuts have no weights"


def test_summaries_tell_the_papers_residual_networks_from_the_big_one() -> None:
    for name in list_models(family="resnet"):
        assert "not 11 M" in model_card(name).summary


def test_shortcut_takes_every_second_pixel_and_adds_zeros() -> None:
    maps = torch.rand(2, 3, 5, 6)
    short = resnet.Block(3, 5, 2).shortcut(maps)
    assert short.shape == (2, 5, 3, 3)
    assert torch.equal(short[:, :3], maps[:, :, ::2, ::2])
    assert not short[:, 3:].any()
    assert resnet.Block(3, 3, 1).shortcut(maps) is maps


def test_what_a_pre_activated_block_adds_goes_through_no_relu() -> None:
    block = layers.PreActBlock(4, 4).eval()
    maps = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        nn.init.zeros_(block.conv2.weight)
        assert torch.equal(block(maps), maps), "nor does the shortcut"
    assert [name for name, _ in block.named_children()][:2] == ["norm1", "conv1"]


def test_wide_networks_depth_counts_the_convolutions() -> None:
    for name in list_models(family="wide_resnet"):
        assert len(_convs(name)) == int(name.split("_")[1])


def test_dropout_of_a_wide_network_is_between_the_convolutions() -> None:
    layout = wide.WideLayout(depth=10, widen=1, dropout=0.3)
    model = wide.wide_model(layout)
    assert sum(isinstance(module, nn.Dropout) for module in model.modules()) == 3
    assert count_params(model) == count_params(wide.wide_model(replace(layout, dropout=0.0)))
    assert not any(
        isinstance(module, nn.Dropout) for module in outline(model_card("wrn_28_10")).modules()
    )


@pytest.mark.parametrize(("name", "depth"), [("vgg11_bn", 11), ("vgg16_bn", 16)])
def test_vggs_name_counts_three_linear_layers_of_which_one_is_left(name: str, depth: int) -> None:
    rows = layer_table(outline(model_card(name)))
    assert sum(row.kind == "Conv2d" for row in rows) == depth - 3
    assert [row.params for row in rows if row.kind == "Linear"] == [512 * 10 + 10]


def test_dense_networks_layers_add_the_growth_rate() -> None:
    found = parts("densenet40_k12")
    shapes = [
        (conv.in_channels, conv.out_channels, conv.kernel_size[0])
        for conv in found["block1"].modules()
        if isinstance(conv, nn.Conv2d)
    ]
    inputs = range(24, 24 + 6 * 12, 12)
    assert shapes == [shape for c in inputs for shape in ((c, 48, 1), (48, 12, 3))]
    maps = torch.zeros(1, 24, 32, 32, device="meta")
    assert found["block1"](maps).shape == (1, 96, 32, 32)
    assert found["transition1"](found["block1"](maps)).shape == (1, 48, 16, 16)
    assert len(_convs("densenet40_k12")) + 1 == 40, "a stem, 36, two transitions, a head"


@pytest.mark.parametrize("num_classes", [10, 100])
def test_mobile_networks_weights_are_torchvisions(num_classes: int) -> None:
    from torchvision.models import mobilenet_v2 as torchvisions

    with torch.device("meta"):
        ours = model_card("mobilenet_v2").builder(num_classes)
        theirs = torchvisions(num_classes=num_classes)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    own = ours.get_submodule("network")
    for kind in (nn.ReLU6, nn.Dropout):
        count = [sum(isinstance(m, kind) for m in model.modules()) for model in (own, theirs)]
        assert count[0] == count[1]


def test_mobile_network_computes_what_torchvisions_does() -> None:
    from torchvision.models import mobilenet_v2 as torchvisions

    ours, theirs = build_model("mobilenet_v2").network, torchvisions(num_classes=10).eval()
    pairs = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(pairs))
    theirs.features[0][0].stride = theirs.features[2].conv[1][0].stride = (1, 1)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_tiny_networks_are_tiny() -> None:
    sizes = {name: count_params(outline(model_card(name))) for name in list_models(family="tiny")}
    assert sizes["tiny_s"] < sizes["tiny_m"] < 100_000
    for name in sizes:
        assert sum(row.macs for row in layer_table(outline(model_card(name)))) < 40e6


def test_second_pass_costs_norms_only_and_as_much_time_again() -> None:
    once, twice = (tiny.tiny_model(pair(passes=passes)) for passes in (1, 2))
    norms = sum(2 * 2 * width for width in (6, 8))
    assert count_params(twice) == count_params(once) + norms
    blocks = 2 * 9 * (6**2 * 32**2 + 8**2 * 16**2)
    macs = [sum(row.macs for row in layer_table(model)) for model in (once, twice)]
    assert macs[1] == macs[0] + blocks


@pytest.mark.parametrize(
    "layout",
    [
        pair(groups=2, activation="silu"),
        pair(squeeze=4, entry_kernel_size=2),
        pair(block="inverted", kernel_size=5, expansion=2, squeeze=16),
        pair(block="inverted", passes=2, activation="hardswish"),
        pair(depths=(0, 2)),
    ],
    ids=["groups", "squeeze", "inverted", "passes", "no_block"],
)
def test_tiny_layouts_make_networks(layout: tiny.TinyLayout) -> None:
    model = tiny.tiny_model(layout).eval()
    assert model(torch.rand(2, 3, 9, 32)).shape == (2, 10)
    grouped = {conv.groups for conv in model.modules() if isinstance(conv, nn.Conv2d)}
    widths = {width * layout.expansion for width in layout.filters}
    assert grouped == ({1} | widths if layout.block == "inverted" else {1, layout.groups})


def test_squeeze_weighs_channels_between_0_and_1() -> None:
    weights = tiny.Squeeze(8, pair(squeeze=4))(torch.randn(2, 8, 4, 4))
    assert weights.shape == (2, 8, 1, 1)
    assert bool(((weights > 0) & (weights < 1)).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet.ResNetLayout(blocks_per_stage=0), "blocks_per_stage is 0"),
        (lambda: resnet.ResNetLayout(blocks_per_stage=1, filters=()), "filters is"),
        (lambda: resnet.ResNetLayout(blocks_per_stage=1, filters=(16, 8)), "none narrower"),
        (lambda: resnet.ResNetLayout(blocks_per_stage=1, filters=(0, 8)), "filters is 0"),
        (lambda: preact_resnet.PreActLayout(filters=(8, 8)), "one number for each stage"),
        (lambda: preact_resnet.PreActLayout(filters=()), "one number for each stage"),
        (lambda: preact_resnet.PreActLayout(filters=(8, 0, 8, 8)), "filters is 0"),
        (lambda: wide.WideLayout(depth=20, widen=4), "depth is 20; allowed: 6 \\* blocks"),
        (lambda: wide.WideLayout(depth=4, widen=4), "depth is 4"),
        (lambda: wide.WideLayout(depth=16, widen=0), "widen is 0"),
        (lambda: wide.WideLayout(depth=16, widen=1, dropout=1.0), "dropout is 1.0"),
        (lambda: vgg.VggLayout(convs_per_stage=(1, 1)), "one number for each stage"),
        (lambda: vgg.VggLayout(convs_per_stage=(1, 1, 0, 1, 1)), "convs_per_stage is 0"),
        (lambda: densenet.DenseLayout(depth=41), "depth is 41; allowed: 6 \\* layers"),
        (lambda: densenet.DenseLayout(growth=0), "growth is 0"),
        (lambda: densenet.DenseLayout(compression=0.0), "compression is 0.0"),
        (lambda: mobilenet_v2.MobileLayout(stages=()), "stages is"),
        (lambda: replace(mobilenet_v2.MOBILE, stem=0), "stem is 0"),
        (lambda: replace(mobilenet_v2.MOBILE, dropout=-0.1), "dropout is -0.1"),
        (lambda: replace(mobilenet_v2.MOBILE.stages[0], stride=3), "stride is 3"),
        (lambda: replace(mobilenet_v2.MOBILE.stages[0], expansion=0), "expansion is 0"),
        (lambda: pair(filters=(6,)), "one number for each stage"),
        (lambda: pair(filters=(6, 0)), "filters is 0"),
        (lambda: pair(depths=(1, -1)), "depths is -1"),
        (lambda: pair(passes=0), "passes is 0"),
        (lambda: pair(groups=4), "groups is 4; allowed: what divides"),
        (lambda: pair(kernel_size=4), "kernel_size is 4; allowed: odd"),
        (lambda: pair(entry_kernel_size=1), "entry_kernel_size is 1"),
        (lambda: pair(squeeze=-1), "squeeze is -1"),
        (lambda: pair(block="pairs"), "did you mean 'pair'"),  # type: ignore[arg-type]
        (lambda: pair(activation="silo"), "did you mean 'silu'"),  # type: ignore[arg-type]
    ],
)
def test_layouts_that_cannot_be_built_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def test_variations_are_one_replace_away() -> None:
    small: list[ImageClassifier] = [
        resnet.resnet_model(replace(resnet.RESNET20, blocks_per_stage=1)),
        preact_resnet.preact_model(preact_resnet.PreActLayout(filters=(8,), blocks_per_stage=(1,))),
        wide.wide_model(replace(wide.WRN_16_4, depth=10, widen=1)),
        vgg.vgg_model(vgg.VggLayout(convs_per_stage=(1, 1), filters=(8, 8))),
        densenet.dense_model(replace(densenet.DENSE40, depth=10, compression=1.0)),
        mobilenet_v2.mobile_model(replace(mobilenet_v2.MOBILE, last=32, dropout=0.0)),
    ]
    for model in small:
        assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_first_weights_are_hes() -> None:
    dense, depthwise = nn.Conv2d(8, 200, 3), nn.Conv2d(2000, 2000, 3, groups=2000)
    linear = nn.Linear(3, 4)
    before = linear.weight.detach().clone()
    layers.he_normal(nn.Sequential(dense, depthwise, linear))
    assert float(dense.weight.detach().std()) == pytest.approx((2 / (9 * 200)) ** 0.5, rel=0.05)
    assert float(depthwise.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert dense.bias is not None
    assert not dense.bias.any()
    assert torch.equal(linear.weight, before)


def _convs(name: str) -> list[nn.Conv2d]:
    return [m for m in outline(model_card(name)).modules() if isinstance(m, nn.Conv2d)]
