"""Each family compared with its paper and with other implementations."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from cifarzoo.device import seeded
from cifarzoo.errors import InvalidValueError
from cifarzoo.models.classifier import ImageClassifier
from cifarzoo.models.resnet import Block, resnet
from cifarzoo.registry import build_on_meta, card_without_weights, list_models

PARAMETERS = {
    # arXiv 1512.03385, table 6: 0.27 M, 0.46 M, 0.85 M. pytorchcv: 2,752 more, by option B.
    "resnet20": 272_474 - 2_752,
    "resnet32": 464_154,
    "resnet56": 855_770 - 2_752,
    # kuangliu/pytorch-cifar's PreActResNet18 has 11,171,146 and lacks the last norm.
    "preact_resnet18": 11_171_146 + 1_024,
    # arXiv 1605.07146, table 4: 2.7 M, 36.5 M.
    "wrn_16_4": 2_748_890,
    "wrn_28_10": 36_479_194,
    # kuangliu/pytorch-cifar: VGG11, VGG16.
    "vgg11_bn": 9_231_114,
    "vgg16_bn": 14_728_266,
    # pytorchcv: densenet40_k12_bc_cifar10.
    "densenet40_k12_bc": 176_122,
    # torchvision: mobilenet_v2(num_classes=10).
    "mobilenet_v2": 2_236_682,
    # The report's table 1 has the first; the others follow from its description.
    "report_baseline": 390_410,
    "report_model1": 1_293_130,
    "report_model2": 419_242,
    "report_best": 1_595_594,
    # torchvision: resnet18 with another head.
    "resnet18_transfer": 11_689_512 - 513_000 + 5_130,
    # KellerJordan/cifar10-airbench: airbench94_muon and the same network at other widths.
    "sprint_s": 498_104,
    "sprint_m": 1_972_792,
    "sprint_m3": 1_949_368,
    "sprint_l": 9_918_776,
    # Our own.
    "tiny_s": 42_230,
    "tiny_m": 89_562,
}
MAPS = {  # channels and side of the output of each stage, for images of 32 pixels
    # arXiv 1512.03385, section 4.2.
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    # arXiv 1512.03385, table 1, with stride 1 in the first layer.
    "preact_resnet18": [(64, 32), (128, 16), (256, 8), (512, 4)],
    # arXiv 1605.07146, table 1.
    "wrn_28_10": [(160, 32), (320, 16), (640, 8)],
    # arXiv 1409.1556, table 1.
    "vgg16_bn": [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)],
    # arXiv 1801.04381, table 2.
    "mobilenet_v2": [(16, 32), (24, 32), (32, 16), (64, 8), (96, 8), (160, 4), (320, 4)],
}


def on_meta(name: str) -> ImageClassifier:
    return build_on_meta(card_without_weights(name)).eval()


def convs(name: str) -> list[nn.Conv2d]:
    return [module for module in on_meta(name).modules() if isinstance(module, nn.Conv2d)]


def build(name: str) -> ImageClassifier:
    with seeded(0):
        return card_without_weights(name).builder(10).eval()


@pytest.mark.parametrize("name", list_models())
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]


def test_sprint_m_trains_as_many_parameters_as_airbench94() -> None:
    trained = [p.numel() for p in on_meta("sprint_m").parameters() if p.requires_grad]
    assert sum(trained) == 1_971_352  # 1.97 M in its repository


@pytest.mark.parametrize("name", MAPS)
def test_map_sizes_are_the_papers(name: str) -> None:
    maps, found = torch.zeros(1, 3, 32, 32, device="meta"), list[tuple[int, int]]()
    for part, module in on_meta(name).network.named_children():
        maps = module(maps)
        if part.startswith("stage"):
            found.append((maps.shape[1], maps.shape[-1]))
    assert found == MAPS[name]


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet20", 20 - 1),  # the linear layer counts as well
        ("resnet56", 56 - 1),
        ("wrn_16_4", 16),
        ("wrn_28_10", 28),
        ("vgg11_bn", 11 - 3),
        ("vgg16_bn", 16 - 3),
        ("densenet40_k12_bc", 40 - 1),
    ],
)
def test_the_name_states_the_depth(name: str, depth: int) -> None:
    assert len(convs(name)) == depth


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("resnet20", 1),
        ("preact_resnet18", 1),
        ("wrn_16_4", 1),
        ("mobilenet_v2", 1),
        ("densenet40_k12_bc", 4),
        ("tiny_m", 4),
        ("sprint_s", 9),
        ("vgg11_bn", 32),
    ],
)
def test_images_of_any_size_above_a_minimum_are_accepted(name: str, least: int) -> None:
    model = on_meta(name)
    for size in ((least, least), (least + 9, least + 20)):
        assert model(torch.zeros(2, 3, *size, device="meta")).shape == (2, 10)
    if least > 1:
        with pytest.raises(InvalidValueError, match=f"at least {least}"):
            model(torch.zeros(2, 3, 64, least - 1, device="meta"))


def test_resnet_shortcut_subsamples_and_appends_zeros() -> None:
    block, maps = Block(3, 5, 2).eval(), torch.rand(2, 3, 5, 6)
    nn.init.zeros_(block.second.get_parameter("conv.weight"))
    expected = torch.cat([maps[:, :, ::2, ::2], torch.zeros(2, 2, 3, 3)], dim=1)
    assert torch.equal(block(maps), expected)


def test_resnet_with_projections_has_the_parameters_of_pytorchcv() -> None:
    model = resnet(blocks_per_stage=3, shortcut="projection")
    assert sum(p.numel() for p in model.parameters()) == 272_474


def test_resnet_has_only_3x3_convolutions() -> None:
    assert {conv.kernel_size for conv in convs("resnet56")} == {(3, 3)}


def assert_same_logits(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy our weights to layers of other names, in order, and compare the logits."""
    pairs = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.eval().load_state_dict(dict(pairs))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_mobilenet_agrees_with_torchvision() -> None:
    theirs = torchvision.models.mobilenet_v2(num_classes=10)
    theirs.features[0][0].stride = theirs.features[2].conv[1][0].stride = (1, 1)
    assert_same_logits(build("mobilenet_v2").network, theirs)


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16_bn"])
def test_vgg_agrees_with_torchvision(name: str) -> None:
    features = torchvision.models.get_model(name, weights=None).features
    theirs = nn.Sequential(features, nn.Flatten(), nn.Linear(512, 10))
    assert_same_logits(build(name).network, theirs)


def test_densenet_agrees_with_torchvision() -> None:
    theirs = torchvision.models.DenseNet(12, (6, 6, 6), 24, bn_size=4, num_classes=10)
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, name, nn.Identity())
    assert_same_logits(build("densenet40_k12_bc").network, theirs)


def test_hardswish_approximates_gelu() -> None:
    x = torch.linspace(-6, 6, 1201)
    hard = nn.functional.hardswish(1.7 * x) / 1.7
    assert float((hard - nn.functional.gelu(x)).abs().max()) < 0.07


# airbench94_muon has batches of 2,000 and, for sums of losses, rates of 0.24 (Muon), 0.053 (biases)
# and 0.67 (head, whose output it divides by its width of 256), and a decay of 2e-6 per image. For
# other batches, Muon's rate scales with the square root and the others, for mean losses, linearly.
@pytest.mark.parametrize(
    ("name", "muon", "bias", "head", "decay", "whiten_epochs"),
    [
        ("sprint_s", 0.12, 26.5, 0.0204468, 0.001, 5 / 3),
        ("sprint_m", 0.24, 106, 0.0204468, 0.004, 3),
        ("sprint_m3", 0.1697056, 53, 0.0261719, 0.002, 40 / 3),
        ("sprint_l", 0.1697056, 53, 0.0025558, 0.002, 16),
    ],
)
def test_sprint_recipe_has_airbenchs_rates(
    name: str, muon: float, bias: float, head: float, decay: float, whiten_epochs: float
) -> None:
    recipe = card_without_weights(name).recipe
    assert (recipe.optimizer, recipe.momentum, recipe.nesterov) == ("muon", 0.6, True)
    assert (recipe.schedule, recipe.label_smoothing) == ("linear", 0.2)
    assert recipe.lr == pytest.approx(muon)
    *groups, filters = recipe.groups
    for group, lr in zip(groups, (bias, bias, head), strict=True):
        assert group.lr == pytest.approx(lr, rel=1e-4)
        assert group.weight_decay == pytest.approx(decay / lr, rel=1e-4)
        assert (group.optimizer, group.momentum) == ("sgd", 0.85)
    assert groups[0].epochs == pytest.approx(whiten_epochs)
    assert filters.fix_norm
