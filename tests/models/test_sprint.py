from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cifarzoo import (
    Callback,
    Check,
    Loaders,
    OptionError,
    Recipe,
    ShapeError,
    count_params,
    fit,
    model_card,
    shapes_loaders,
    train,
)
from cifarzoo.models.sprint import (
    LARGE,
    MEDIUM,
    MEDIUM_DEEP,
    SHARPNESS,
    SMALL,
    ActivationName,
    Block,
    SprintLayout,
    SprintNetwork,
    sprint_model,
)

TINY = SprintLayout(filters=(8, 12))


@pytest.mark.parametrize(
    ("layout", "filters", "depth"),
    [
        (SMALL, (32, 128, 128), 2),
        (MEDIUM, (64, 256, 256), 2),
        (MEDIUM_DEEP, (128, 192, 160), 3),
        (LARGE, (128, 384, 512), 3),
    ],
    ids=["s", "m", "m3", "l"],
)
def test_parameters_are_airbenchs(
    layout: SprintLayout, filters: tuple[int, ...], depth: int
) -> None:
    whitening, biases = 24 * 12 + 24, 2 * depth * sum(filters)  # and the norms' scales
    pairs = zip((24, *filters), filters, strict=False)
    convs = sum(9 * b * (a + (depth - 1) * b) for a, b in pairs)
    model = sprint_model(layout)
    assert count_params(model) == whitening + convs + biases + filters[-1] * 10
    frozen = 24 * 12 + depth * sum(filters)
    assert count_params(model, which="trainable") == count_params(model) - frozen


def test_airbench94s_number_of_trained_parameters() -> None:
    # 1.97 M, as its repository says: filters, biases and head.
    assert count_params(sprint_model(MEDIUM), which="trainable") == 1_971_352


def test_what_was_computed_goes_with_the_state() -> None:
    first, second = sprint_model(TINY), sprint_model(TINY)
    first.initialize_from(torch.rand(64, 3, 32, 32))
    second.load_state_dict(first.state_dict())
    assert not second.needs_images


def test_filters_begin_by_passing_their_input_on() -> None:
    model = sprint_model(TINY)
    assert isinstance(model.network, SprintNetwork)
    convs = [m for m in model.network.blocks.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(24, 8), (8, 8), (8, 12), (12, 12)]
    for conv in convs:
        passed = min(conv.in_channels, conv.out_channels)
        assert int((conv.weight.detach()[:passed] != 0).sum()) == passed


def test_hardswish_stands_for_gelu() -> None:
    x = torch.linspace(-6, 6, 1201)
    hard = nn.functional.hardswish(SHARPNESS * x) / SHARPNESS
    assert float((hard - nn.functional.gelu(x)).abs().max()) < 0.07


@pytest.mark.parametrize("activation", ["gelu", "hardswish"])
def test_third_convolution_is_added_to_the_first(activation: ActivationName) -> None:
    layout = SprintLayout(filters=(6,), activation=activation, convs_per_block=3)
    model = sprint_model(layout).eval()
    assert isinstance(model.network, SprintNetwork)
    (block,) = model.network.blocks
    assert isinstance(block, Block)
    maps = torch.rand(2, 24, 8, 8)
    with torch.no_grad():
        first = block.first(maps)
        expected = layout.act()(block.rest(first) + first)
        assert torch.equal(block(maps), expected)
        assert first.shape == (2, 6, 4, 4)


@pytest.mark.parametrize("side", [9, 16, 31, 32, 48])
def test_images_of_any_size_give_logits(side: int) -> None:
    model = sprint_model(SprintLayout(filters=(8, 8, 8))).eval()
    assert model(torch.rand(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize("filters", [(), (8, 0), (1,) * 5])
def test_layouts_that_cannot_be_built_are_refused(filters: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="filters is"):
        SprintLayout(filters=filters)


@pytest.mark.parametrize("convs", [1, 4])
def test_number_of_convolutions_is_checked(convs: int) -> None:
    with pytest.raises(OptionError, match="convs_per_block is"):
        SprintLayout(filters=(8,), convs_per_block=convs)


def test_unknown_activation_is_refused_with_the_closest() -> None:
    with pytest.raises(OptionError, match="did you mean 'gelu'"):
        SprintLayout(filters=(8,), activation="gulu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "width"),
    [("sprint_s", 128), ("sprint_m", 256), ("sprint_m3", 160), ("sprint_l", 512)],
)
def test_recipe_is_airbenchs(name: str, width: int) -> None:
    recipe = model_card(name).recipe
    n = recipe.batch_size
    assert recipe.optimizer == "muon"
    assert recipe.lr == pytest.approx(0.24 * math.sqrt(n / 2000))
    assert (recipe.momentum, recipe.nesterov, recipe.label_smoothing) == (0.6, True, 0.2)
    whiten, norms, head, filters = recipe.groups
    # Of a sum of losses, as airbench94_muon has them: 0.053, 0.053, 0.67.
    assert whiten.lr == norms.lr == pytest.approx(0.053 * n)
    assert head.lr == pytest.approx(0.67 * n / width**2)
    for group in (whiten, norms, head):
        assert group.lr is not None
        assert group.weight_decay is not None
        assert group.lr * group.weight_decay == pytest.approx(2e-6 * n)
    assert whiten.epochs == pytest.approx(recipe.epochs / 3)
    assert filters.norm == "kept"


@pytest.mark.muon
def test_small_one_learns_the_shapes_in_two_epochs() -> None:
    loaders = shapes_loaders(100, n_train=2000, n_test=400, val_fraction=0.0)
    card = model_card("sprint_s")
    recipe = Recipe(
        epochs=2,
        batch_size=100,
        optimizer="muon",
        lr=0.05,
        momentum=0.6,
        nesterov=True,
        groups=card.recipe.groups,
        schedule="linear",
        keep="last",
    )
    run = train(card, data=loaders, recipe=recipe, progress=False, tta="flip_translate")
    assert run.test is not None
    assert run.test_tta is not None
    assert run.test.accuracy > 0.6
    assert run.test_tta.tta == "flip_translate"


@pytest.mark.muon
def test_filters_keep_their_norm_and_the_bias_of_the_whitening_stops() -> None:
    loaders = shapes_loaders(50, n_train=200, n_test=50, val_fraction=0.0)
    model = sprint_model(TINY)
    recipe = Recipe(
        epochs=3,
        optimizer="muon",
        lr=0.01,
        momentum=0.6,
        nesterov=True,
        groups=model_card("sprint_s").recipe.groups,
        schedule="linear",
        keep="last",
    )
    biases = list[torch.Tensor]()

    class Watching(Callback):
        def on_check(self, check: Check) -> None:
            assert check.epoch == len(biases) + 1
            assert isinstance(model.network, SprintNetwork)
            assert model.network.whiten.bias is not None
            biases.append(model.network.whiten.bias.detach().clone())

    fit(
        model,
        Loaders(loaders.train),
        recipe,
        device="cpu",
        progress=False,
        callbacks=[Watching()],
    )
    assert biases[0].abs().max() > 0
    assert torch.equal(biases[1], biases[2]), "its epochs were over in the second one"
    assert isinstance(model.network, SprintNetwork)
    for conv in (m for m in model.network.blocks.modules() if isinstance(m, nn.Conv2d)):
        # The norm is set before each step, and one step is small.
        assert float(conv.weight.detach().norm()) == pytest.approx(
            math.sqrt(conv.out_channels), rel=0.05
        )


def test_image_that_cannot_be_halved_often_enough_is_refused() -> None:
    model = sprint_model(SprintLayout(filters=(8, 8, 8))).eval()
    with pytest.raises(ShapeError, match=r"\(1, 3, 32, 8\); this network takes .* from 9 up"):
        model(torch.rand(1, 3, 32, 8))
