"""What holds for every model of the zoo."""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifarzoo import (
    ImageClassifier,
    ModelCard,
    Preprocess,
    Recipe,
    ShapeError,
    build_model,
    count_params,
    layer_table,
    list_models,
    model_card,
    models,
    save_weights,
)
from cifarzoo.hardware import seeded
from cifarzoo.registry import outline
from cifarzoo.training.optim import Optimizers

FILES = sorted(Path(inspect.getfile(models)).parent.glob("[!_]*.py"))
CARDS: list[ModelCard] = [
    card
    for file in FILES
    for card in getattr(importlib.import_module(f"cifarzoo.models.{file.stem}"), "CARDS", ())
]
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


@pytest.fixture(scope="module")
def built() -> Callable[[ModelCard], ImageClassifier]:
    """Build each model once; the tests that take it do not change it."""
    made: dict[str, ImageClassifier] = {}

    def build(card: ModelCard) -> ImageClassifier:
        if card.name not in made:
            made[card.name] = build_model(card.name, num_classes=10)
        return made[card.name]

    return build


def test_no_two_cards_share_a_name() -> None:
    names = [card.name for card in CARDS]
    assert len(names) == len(set(names))
    assert set(names) == set(list_models())


@every_card
def test_card_says_what_tables_show(card: ModelCard) -> None:
    assert replace(model_card(card.name), weights=()) == card
    assert card.summary == card.summary.strip()
    assert card.summary.endswith(".")
    assert "\n" not in card.summary
    assert len(card.summary) <= 80
    assert card.paper
    tags = [weights.tag for weights in card.weights]
    assert len(tags) == len(set(tags))
    assert inspect.signature(card.builder).parameters


@every_card
def test_family_is_the_file_that_holds_the_card(card: ModelCard) -> None:
    module = importlib.import_module(f"cifarzoo.models.{card.family}")
    assert card in module.CARDS
    assert isinstance(module.CARDS, tuple)
    assert (module.__doc__ or "").strip()


@every_card
def test_images_become_logits(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    model = built(card)
    assert isinstance(model, ImageClassifier)
    assert isinstance(model.preprocess, Preprocess)
    assert not any(module.training for module in model.modules())
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(pixels)
        assert logits.shape == (2, 10)
        assert logits.dtype == torch.float32
        assert bool(logits.isfinite().all())
        assert torch.equal(model(pixels / 255), logits), "uint8 and float are one image"
    with pytest.raises(ShapeError):
        model(pixels[0])


@every_card
def test_one_image_is_scored_as_in_a_batch(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    model = built(card)
    with torch.no_grad():
        one, both = model(pixels[:1]), model(pixels)
    # Untrained, the deep ones give logits of thousands, and some near zero beside them.
    assert (one - both[:1]).abs().max() <= 1e-5 * both.abs().max()


@every_card
@pytest.mark.parametrize("num_classes", [2, 7, 100])
def test_number_of_classes_is_the_length_of_the_logits(card: ModelCard, num_classes: int) -> None:
    with torch.device("meta"):
        model = card.builder(num_classes)
        assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, num_classes)


@every_card
def test_same_seed_builds_the_same_model(card: ModelCard) -> None:
    def first(seed: int) -> torch.Tensor:
        with seeded(seed):
            return next(card.builder(10).parameters()).detach()

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@every_card
def test_names_in_the_state_are_plain(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    model = built(card)
    names = list(model.state_dict())
    assert all(re.fullmatch(r"(preprocess|network)(\.\w+)+", name) for name in names)
    assert not any("module." in name or "_orig_mod" in name for name in names)
    assert {"preprocess.mean", "preprocess.std"} <= set(names)
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())


@every_card
def test_every_trained_layer_gets_a_gradient(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    model = built(card)
    logits = model(torch.rand(2, 3, 32, 32))
    loss = nn.functional.cross_entropy(logits, torch.tensor([3, 7]))
    torch.autograd.backward(loss)
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    frozen = [p.grad for p in model.parameters() if not p.requires_grad]
    model.zero_grad(set_to_none=True)
    assert trained
    assert all(grad is None for grad in frozen)
    assert not [name for name, grad in trained.items() if grad is None or not grad.any()]
    assert all(bool(grad.isfinite().all()) for grad in trained.values() if grad is not None)
    *_, head = (grad for grad in trained.values() if grad is not None and len(grad) == 10)
    assert bool((head.reshape(10, -1)[[3, 7]] != 0).any(dim=1).all()), "the classes that are there"


@every_card
def test_trains_in_bfloat16_with_channels_last(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    model = copy.deepcopy(built(card)).train().to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
    logits.float().square().mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)
    assert all(bool(t.isfinite().all()) for t in model.state_dict().values())


@every_card
def test_export_gives_the_same_logits(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    model, images = built(card), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-5)


@every_card
def test_costs_of_the_layers_add_up_to_what_runs(card: ModelCard) -> None:
    model = outline(card).eval()
    rows = layer_table(model)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, device="meta"))
    assert sum(row.macs for row in rows) * 2 == counter.get_total_flops()
    assert sum(row.params for row in rows) == count_params(model)


@every_card
def test_layout_in_memory_changes_no_logits(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    plain, images = built(card), torch.rand(2, 3, 32, 32)
    model = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = model(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, plain(images), rtol=1e-4, atol=1e-5)


@every_card
def test_weights_go_through_a_file(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier], tmp_path: Path
) -> None:
    path, model = tmp_path / "weights.safetensors", copy.deepcopy(built(card))
    for tensor in model.state_dict().values():  # statistics, too, are not what a new model has
        tensor.copy_(torch.rand(tensor.shape) if tensor.is_floating_point() else tensor + 7)
    save_weights(model, path)
    again = build_model(card.name, weights=path)
    pairs = zip(model.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(one[0] == two[0] and torch.equal(one[1], two[1]) for one, two in pairs)


@every_card
def test_size_limit_of_the_list_is_the_number_of_parameters(
    card: ModelCard, built: Callable[[ModelCard], ImageClassifier]
) -> None:
    size = count_params(built(card))
    assert card.name in list_models(max_params=size)
    assert card.name not in list_models(max_params=size - 1)


def test_models_differ_by_more_than_their_name() -> None:
    for one, two in itertools.combinations(CARDS, 2):
        with torch.device("meta"):
            shapes = [
                [tuple(p.shape) for p in card.builder(10).parameters()] for card in (one, two)
            ]
        assert shapes[0] != shapes[1], f"{one.name} and {two.name} are the same network"


@pytest.mark.parametrize(
    "file", [file for file in FILES if "CARDS" in file.read_text()], ids=lambda file: file.stem
)
def test_model_is_one_short_file(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200, "a reader should take it in at once"
    tree = importlib.import_module(f"cifarzoo.models.{file.stem}")
    own = [
        value
        for _, value in inspect.getmembers(tree, inspect.isclass)
        if value.__module__ == tree.__name__
    ]
    assert all((value.__doc__ or "").strip() for value in own)


def test_network_is_any_module() -> None:
    model = ImageClassifier(Preprocess(), nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


@pytest.mark.muon
@pytest.mark.parametrize(
    ("card", "recipe"),
    [
        pytest.param(card, recipe, id=f"{card.name}-{tag}")
        for card in CARDS
        for tag, recipe in (("default", card.recipe), *card.more_recipes)
    ],
)
def test_recipes_fit_the_parameters(card: ModelCard, recipe: Recipe) -> None:
    model = outline(card).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)  # a filter whose norm is kept needs one
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    optimizers = Optimizers(recipe, model.named_parameters(), steps_per_epoch=10)
    groups = [group for each in optimizers.optimizers for group in each.param_groups]
    assert sorted(p.numel() for group in groups for p in group["params"]) == sorted(sizes)
